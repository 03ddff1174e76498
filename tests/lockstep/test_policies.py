"""Policies in lock-step: hebbian and static are their kernels' bits in any slot, a torch module nearly so."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from esd.config.settings import Config
from esd.config.tables import parse
from esd.errors import UsageError
from esd.evolution.layout import Layout
from esd.lockstep.layout import unpacked
from esd.lockstep.module import members_at_once
from esd.lockstep.policies import BatchPolicy, make_batch_policy
from esd.policies.base import Interface, Policy
from esd.policies.hebbian import RULE_COEFFICIENTS, SCHEMES
from esd.policies.perceptron import ACTIVATION_KINDS, NORMALIZATION_KINDS
from esd.policies.registry import make_policy

SLOTS, STEPS = 5, 30
HEBBIAN: dict[str, dict[str, Any]] = {
    **{f"rule {rule}": {"rule": rule} for rule in RULE_COEFFICIENTS},
    "raw outputs": {"output": "raw"},
    **{
        f"rule {rule}, slow": {"rule": rule, "rate": 0.03}
        for rule in ("ABC", "ABCD_lr_D_in_and_out")
    },
    **{
        f"{n}, {a}": {"normalization": n, "activation": a}
        for n, a in itertools.product(NORMALIZATION_KINDS, ACTIVATION_KINDS)
    },
    **{f"{s} weights": {"initial_weights": s} for s in SCHEMES},
    **{
        f"order F, {s} weights": {"order": "F", "initial_weights": s}
        for s in ("uniform", "coevolved")
    },
    "no hidden layer": {"hidden": []},
    **{
        f"{n}, frozen after {k}": {"normalization": n, "freeze_after": k}
        for n, k in itertools.product(NORMALIZATION_KINDS, (1, 12))
    },
    **{
        f"every fourth step, {'means' if average else 'last'}": {"every": 4, "average": average}
        for average in (False, True)
    },
    "seven rules, order F": {"rules": 7, "order": "F"},
}
POLICIES = {
    **{name: {"kind": "hebbian", "hidden": [7, 19], **own} for name, own in HEBBIAN.items()},
    **{
        f"static, order {order}, {a}": {"kind": "static", "order": order, "activation": a, "hidden": [7, 19]}
        for order, a in (("C", "tanh"), ("F", "relu"))
    },
}  # fmt: skip


def both(
    policy: dict[str, Any],
    interface: Interface,
    slots: int = SLOTS,
    device: torch.device | str = "cpu",
) -> tuple[Policy, BatchPolicy]:
    """A policy alone and in lock-step."""
    config: Config = parse({"policy": policy, "batch_members": slots}, "test")
    alone = make_policy(config.policy, interface)
    return alone, make_batch_policy(config, alone, interface, torch.device(device))


def observation(member: int, step: int, size: int) -> np.ndarray:
    """What a member sees at a step of its episode."""
    rng = np.random.default_rng((member, step))
    return rng.standard_normal(size).astype(np.float32)


def outputs_alone(policy: Policy, member: int, size: int, steps: int = STEPS) -> np.ndarray:
    """Outputs of a member's episode, [steps, action_size]."""
    policy.load(policy.initial_parameters(member))
    policy.reset(member)
    return np.array([policy.act(observation(member, t, size)).copy() for t in range(steps)])


def outputs_together(
    policy: Policy,
    batch: BatchPolicy,
    size: int,
    slots: int,
    starts: dict[int, list[tuple[int, int]]],
    device: torch.device,
) -> dict[tuple[int, int], np.ndarray]:
    """Play members side by side: by slot, who begins at which lock-step; outputs by (member, beginning)."""
    seen: dict[tuple[int, int], list[np.ndarray]] = {}
    now: dict[int, tuple[int, int]] = {}  # slot: member, beginning
    for t in range(max(begin for slot in starts.values() for begin, _ in slot) + STEPS):
        observations = np.full((slots, size), 3.5, np.float32)
        beginning = [
            (slot, member) for slot, own in starts.items() for begin, member in own if begin == t
        ]
        if beginning:
            parameters = np.stack([policy.initial_parameters(m) for _, m in beginning])
            on_device = torch.from_numpy(parameters).to(device)
            batch.load([slot for slot, _ in beginning], on_device)
        for slot, member in beginning:
            batch.reset(slot, member)
            now[slot] = member, t
        for slot, (member, begin) in now.items():
            observations[slot] = observation(member, t - begin, size)
        outputs = batch.act(observations)
        for slot, (member, begin) in now.items():
            if t - begin < STEPS:
                seen.setdefault((member, begin), []).append(outputs[slot].copy())
    return {key: np.array(values) for key, values in seen.items()}


@pytest.mark.parametrize("bounded", [False, True], ids=["raw", "bounded"])
@pytest.mark.parametrize("name", POLICIES)
def test_every_perceptron_is_its_kernels_bits_in_any_slot_beside_any_neighbor(
    name: str, bounded: bool, device: torch.device
) -> None:
    policy, batch = both(POLICIES[name], Interface(5, 3, bounded), device=device)
    assert batch.same_bits
    expected = {member: outputs_alone(policy, member, 5) for member in (1, 2, 3)}
    assert not np.array_equal(expected[1], expected[2], equal_nan=True) or "zeros" in name
    # member 1 alone in the batch, then again among others that began earlier, in a used slot and in the last one
    starts = {0: [(0, 1), (40, 1)], 2: [(17, 2)], 3: [(31, 3)], 4: [(36, 1)]}
    for (member, _), outputs in outputs_together(policy, batch, 5, SLOTS, starts, device).items():
        np.testing.assert_array_equal(
            outputs.view(np.uint32)[~np.isnan(outputs)],
            expected[member].view(np.uint32)[~np.isnan(outputs)],
        )
        np.testing.assert_array_equal(outputs, expected[member])  # where it is NaN, too


def test_the_network_of_the_paper_is_its_kernels_bits_over_200_steps(device: torch.device) -> None:
    policy, batch = both({"hidden": [128, 64]}, Interface(28, 8, True), slots=2, device=device)
    expected = outputs_alone(policy, 4, 28, steps=200)
    batch.load([1], torch.from_numpy(policy.initial_parameters(4)).to(device)[None])
    batch.reset(1, 4)
    for step in range(200):
        seen = np.stack([np.zeros(28, np.float32), observation(4, step, 28)])
        np.testing.assert_array_equal(batch.act(seen)[1], expected[step])


@pytest.mark.parametrize("hidden", [16, 129])
def test_a_module_agrees_within_a_tolerance_and_depends_on_nothing_but_its_slot(
    hidden: int, device: torch.device
) -> None:
    kind = {"kind": "tests.helpers.user_code:SmallModule", "kwargs": {"hidden": hidden}}
    slots = 64
    policy, batch = both(kind, Interface(5, 3, False), slots, device)
    assert (batch.same_bits, members_at_once(policy.layout.size)) == (False, slots)
    expected = {member: outputs_alone(policy, member, 5) for member in (1, 2, 3)}
    crowded = {0: [(0, 3), (40, 1)], 2: [(17, 2)], 3: [(31, 3)], 4: [(36, 2)]}
    runs = [outputs_together(policy, batch, 5, slots, s, device) for s in ({0: [(0, 1)]}, crowded)]
    np.testing.assert_array_equal(runs[0][1, 0], runs[1][1, 40])
    for (member, _), outputs in runs[1].items():
        np.testing.assert_allclose(outputs, expected[member], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "tests.helpers.user_code:CountingPolicy",
            "only hebbian, static, a torch.nn.Module and a class",
        ),
        ("reformer", "'reformer': can't be evaluated in lock-step; only hebbian"),
        ("gru", "'gru': can't be evaluated in lock-step; only hebbian"),
        ("tests.helpers.user_code:RecurrentModule", "memory"),
        ("tests.helpers.user_code:RandomModule", "vmap"),
        ("tests.helpers.user_code:BranchingModule", "vmap"),
    ],
)
def test_a_policy_without_a_batch_path_is_refused_by_name(kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        both({"kind": kind}, Interface(5, 3, False))
    assert kind in str(error.value)
    assert "batch_members = 0" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_are_unpacked_as_layouts_do(order: Any) -> None:
    layout = Layout({"a": (2, 3), "b": (4,), "c": (2, 3, 4), "d": ()}, order)
    vectors = np.random.default_rng(0).standard_normal((3, layout.size)).astype(np.float32)
    together = unpacked(layout, torch.from_numpy(vectors))
    for number, vector in enumerate(vectors):
        for name, array in layout.unpack(vector).items():
            np.testing.assert_array_equal(together[name][number].numpy(), array)


def test_convolutions_are_refused_by_name() -> None:
    table = {"policy": {"kind": "static", "convolutions": True}, "batch_members": 4}
    config, interface = parse(table, "test"), Interface(3 * 84**2, 2, True)
    policy = make_policy(config.policy, interface)
    with pytest.raises(UsageError, match=r"policy.convolutions = true: can't be evaluated"):
        make_batch_policy(config, policy, interface, torch.device("cpu"))
