"""A recorded episode: what the network saw and did, and what it was inside."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.errors import RunError, UsageError
from esd.evaluation import trace
from esd.evaluation.test_episodes import choose, evaluate
from esd.evaluation.trace import record, save
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import Alone
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from tests.helpers.configs import of_table
from tests.helpers.oracles.hebbian import HebbianOracle

PENDULUM = {"id": "Pendulum-v1", "max_steps": 12}
POLICY = {"kind": "hebbian", "hidden": [6, 5]}


def recorded(
    config: Config, *settings: str, interface: Interface | None = None, **options: Any
) -> tuple[dict[str, np.ndarray], dict[str, str], RunState]:
    policy = make_policy(config.policy, interface or Interface(3, 1, True))
    state = start(make_strategy(config, policy.layout), policy.initial_parameters(0), 0)
    subject = choose(config, None, settings, options.pop("variants", ()))
    return *record(subject, state, options.pop("seed", 0), **options), state


def test_everything_is_recorded_in_float32_with_a_row_per_step() -> None:
    arrays, words, state = recorded(of_table(env=PENDULUM, policy=POLICY))
    assert {name: array.shape for name, array in arrays.items()} == {
        "observations": (12, 3),
        "actions": (12, 1),
        "rewards": (12,),
        "activities.0": (12, 3),
        "activities.1": (12, 6),
        "activities.2": (12, 5),
        "activities.3": (12, 1),
        "weights.0": (12, 3, 6),
        "weights.1": (12, 6, 5),
        "weights.2": (12, 5, 1),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert words["h_sha256"] == state.h_sha256()
    assert (words["variant"], words["seed"], words["generation"]) == ("Pendulum-v1", "0", "0")


@pytest.mark.parametrize(("kind", "size"), [("reformer", 9), ("gru", 5)])
def test_of_a_policy_with_a_memory_the_head_is_recorded(kind: str, size: int) -> None:
    """Outputs are a linear map of what the memory gave, through weights that it rewires."""
    own = {"width": 4} if kind == "reformer" else {"units": 4}
    policy = {"kind": kind, "head": "ABCD_lr", **own}
    arrays, _, _ = recorded(of_table(env=PENDULUM, policy=policy))
    assert arrays["activities.0"].shape == (12, size)
    assert arrays["weights.0"].shape == (12, size, 1)
    np.testing.assert_array_equal(arrays["activities.0"][:, -1], 1.0)
    logits = np.einsum("ti,tij->tj", arrays["activities.0"], arrays["weights.0"])
    np.testing.assert_allclose(arrays["activities.1"], np.tanh(logits), atol=1e-6)
    np.testing.assert_allclose(arrays["actions"], 2.0 * arrays["activities.1"], atol=1e-6)
    assert len({row.tobytes() for row in arrays["activities.0"]}) == 12
    assert not np.array_equal(arrays["weights.0"][0], arrays["weights.0"][-1])


@pytest.mark.parametrize("normalization", ["max", "l2"])
@pytest.mark.parametrize("freeze_after", [0, 4])
def test_weights_and_activities_are_those_of_the_oracle(
    normalization: str, freeze_after: int
) -> None:
    policy = {**POLICY, "normalization": normalization, "freeze_after": freeze_after}
    config = of_table(env=PENDULUM, policy=policy)
    arrays, _, state = recorded(config)
    layout = make_policy(config.policy, Interface(3, 1, True)).layout
    own = layout.unpack(state.h)
    coefficients = [
        {name: own[f"layer{layer}.{name}"] for name in ("A", "B", "C", "D", "eta")}
        for layer in range(3)
    ]
    first = [arrays[f"weights.{layer}"][0] for layer in range(3)]
    oracle = HebbianOracle(
        coefficients, first, normalization, "tanh", True, freeze_after=freeze_after
    )
    for step in range(12):
        if step:
            oracle.update()
        oracle.forward(arrays["observations"][step])
        for layer in range(4):
            np.testing.assert_allclose(
                arrays[f"activities.{layer}"][step], oracle.activities[layer], atol=2e-5
            )
        for layer in range(3):
            np.testing.assert_allclose(
                arrays[f"weights.{layer}"][step], oracle.weights[layer], atol=2e-5
            )
    frozen = [np.array_equal(a, b) for a, b in itertools.pairwise(arrays["weights.0"])]
    assert frozen == [bool(freeze_after) and step >= freeze_after for step in range(11)]


def test_it_is_the_first_test_episode_of_the_first_variant_asked_for() -> None:
    bodies = [{"name": "light", "kwargs": {"g": 2.0}}, {"name": "heavy", "kwargs": {"g": 20.0}}]
    config = of_table(env={**PENDULUM, "variants": bodies}, policy=POLICY)
    for rules, names in itertools.product(("evolved", "random"), (("light",), ("heavy", "light"))):
        arrays, words, state = recorded(config, variants=names, seed=3, rules=rules)
        subject = choose(config, None, [], names)
        expected = evaluate(Alone(), subject, state, 2, 3, rules)[0].returns[0]
        assert float(words["return"]) == expected
        assert arrays["rewards"].sum() == pytest.approx(expected, rel=1e-5)
        assert words["variant"] == names[0]


def test_the_recorded_actions_give_the_recorded_rewards_and_observations() -> None:
    config = of_table(env={"id": "CartPole-v1", "max_steps": 20}, policy=POLICY)
    arrays, words, _ = recorded(config, interface=Interface(4, 2, False))
    from esd.evaluation.test_episodes import episode_seeds

    env = make_environment(config.env)
    observation, _ = env.reset(seed=episode_seeds(0, 0, 0).environment)
    for step in range(int(words["steps"])):
        np.testing.assert_array_equal(arrays["observations"][step], observation)
        observation, reward, *_ = env.step(int(arrays["actions"][step, 0]))
        assert reward == arrays["rewards"][step]


@pytest.mark.parametrize(("every", "kept"), [(1, 12), (5, 3), (12, 1), (100, 1)])
def test_weights_can_be_kept_less_often(every: int, kept: int) -> None:
    config = of_table(env=PENDULUM, policy=POLICY)
    all_of_them, _, _ = recorded(config)
    some, words, _ = recorded(config, every=every)
    assert some["weights.1"].shape[0] == kept
    assert words["weights_every"] == str(every)
    np.testing.assert_array_equal(some["weights.1"], all_of_them["weights.1"][::every])
    np.testing.assert_array_equal(some["activities.1"], all_of_them["activities.1"])


def test_static_weights_stay() -> None:
    arrays, _, state = recorded(of_table(env=PENDULUM, policy={**POLICY, "kind": "static"}))
    assert (arrays["weights.0"] == arrays["weights.0"][0]).all()
    np.testing.assert_array_equal(arrays["weights.0"][0].ravel(), state.h[:18])


def test_a_policy_that_cannot_be_traced_is_refused_by_name_before_any_episode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = "tests.helpers.user_code:CountingPolicy"
    config = parse({"env": PENDULUM, "policy": {"kind": kind}}, "test")
    monkeypatch.setattr(Rollout, "play", lambda *arguments: pytest.fail("an episode was played"))
    with pytest.raises(UsageError, match=f"'{kind}': its activities can't be recorded.*Traceable"):
        recorded(config)


def test_a_recording_larger_than_memory_is_refused_and_what_is_advised_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = of_table(env={**PENDULUM, "max_steps": 100}, policy=POLICY)
    monkeypatch.setattr(trace, "MOST_BYTES", 100 * (3 + 15) * 4 + 53 * 4 * 7)
    with pytest.raises(UsageError, match=r"--trace: an episode of 100 steps .*--trace-every 15$"):
        recorded(config)
    recorded(config, every=15)
    with pytest.raises(UsageError):
        recorded(config, every=14)
    monkeypatch.setattr(trace, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match=r"more than 0 MB$"):
        recorded(config)


def test_the_file_holds_the_arrays_and_the_words(tmp_path: Path) -> None:
    arrays, words, _ = recorded(of_table(env=PENDULUM, policy=POLICY), "policy.freeze_after=2")
    save(tmp_path / "t.safetensors", arrays, words)
    with safetensors.safe_open(tmp_path / "t.safetensors", "numpy") as file:
        assert file.metadata() == words
        assert json.loads(file.metadata()["settings"]) == {"policy.freeze_after": 2}
        assert {*file.keys()} == {*arrays}
        np.testing.assert_array_equal(file.get_tensor("weights.0"), arrays["weights.0"])
    with pytest.raises(RunError, match="can't be written"):
        save(tmp_path / "nowhere" / "t.safetensors", arrays, words)
