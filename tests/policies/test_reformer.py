"""The Reformer policy against whole episodes in plain numpy, and what it remembers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esd.attention.stream import scale_of
from esd.kernels import clock
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.policies.recurrent import RememberingPolicy
from esd.policies.reformer import ReformerPolicy, ReformerSettings
from tests.helpers.oracles import reformer as oracle

SEEN, ACTIONS, STEPS = 3, 2, 200
SMALL = ReformerSettings(width=6, head_size=5, clock=(4, 64), hashes=2, buckets=8)
SETTINGS = {
    "as it is": SMALL,
    "shared keys": dataclasses.replace(SMALL, keys="shared"),
    "a gate": dataclasses.replace(SMALL, gate=True, gate_bias=0.5),
    "normalized": dataclasses.replace(SMALL, normalize=True, units=4),
    "full attention": dataclasses.replace(SMALL, attention="full", blocks=2),
    "no clock, many buckets": dataclasses.replace(SMALL, clock=(), buckets=96, hashes=5),
    "beyond cap and capacity": dataclasses.replace(SMALL, cap=3, capacity=40, buckets=4),
    "full attention beyond capacity": dataclasses.replace(SMALL, attention="full", capacity=30),
    "all of it": ReformerSettings(
        width=18,
        blocks=3,
        heads=2,
        head_size=17,
        units=20,
        clock=(5, 8),
        buckets=6,
        hashes=3,
        gate=True,
        normalize=True,
    ),
}


def started(
    settings: ReformerSettings, seed: int = 1, bounded: bool = False
) -> tuple[ReformerPolicy, dict[str, np.ndarray]]:
    """A policy with random parameters (small ones where all begin at zero), and its arrays."""
    policy = ReformerPolicy(Interface(SEEN, ACTIONS, bounded), settings)
    h = policy.initial_parameters(seed)
    h += 0.3 * np.random.default_rng(seed).standard_normal(h.size).astype(np.float32)
    policy.load(h)
    policy.reset(seed)
    return policy, policy.layout.unpack(h)


def observations(steps: int = STEPS, seed: int = 2) -> np.ndarray:
    """Those of an episode, some of them twice."""
    rng = np.random.default_rng(seed)
    seen = rng.standard_normal((steps, SEEN)).astype(np.float32)
    seen[rng.integers(steps, size=steps // 2)] = seen[0]
    return seen


def outputs(policy: ReformerPolicy, seen: np.ndarray) -> np.ndarray:
    """Of the steps of an episode."""
    return np.array([policy.act(observation).copy() for observation in seen])


@pytest.mark.parametrize("name", SETTINGS)
def test_an_episode_agrees_with_the_oracle(name: str) -> None:
    settings = SETTINGS[name]
    policy, arrays = started(settings)
    seen = observations()
    expected = oracle.with_one(oracle.streams(arrays, settings, seen)) @ arrays["head.layer0.w"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs(policy, seen), expected, rtol=0, atol=1e-5 * scale)


def test_the_oracle_notices_a_key_too_few() -> None:
    settings = SETTINGS["full attention beyond capacity"]
    policy, _ = started(settings)
    seen = observations()
    other, _ = started(dataclasses.replace(settings, capacity=29))
    difference = np.abs(outputs(policy, seen) - outputs(other, seen))
    assert difference[:30].max() == 0.0
    assert difference[30:].max() > 1e-4


def test_order_f_and_c_describe_the_same_network() -> None:
    settings = SETTINGS["all of it"]
    policy, arrays = started(settings)
    other = ReformerPolicy(
        Interface(SEEN, ACTIONS, False), dataclasses.replace(settings, order="F")
    )
    other.load(other.layout.pack(arrays))
    other.reset(1)
    seen = observations(50)
    np.testing.assert_array_equal(outputs(policy, seen), outputs(other, seen))


@given(st.integers(0, 2**32), st.sampled_from(sorted(SETTINGS)))
def test_what_comes_later_changes_nothing_before_it(seed: int, name: str) -> None:
    settings = SETTINGS[name]
    seen = observations(40, seed % 1000)
    policy, _ = started(settings)
    first = outputs(policy, seen)
    policy.reset(1)
    changed = seen.copy()
    changed[25:] = np.random.default_rng(seed).standard_normal((15, SEEN))
    np.testing.assert_array_equal(outputs(policy, changed)[:25], first[:25])


def test_a_closed_gate_writes_nothing_and_an_open_one_everything() -> None:
    settings = dataclasses.replace(SMALL, gate=True, attention="full")
    policy, arrays = started(settings)
    seen = observations(20)
    always, _ = started(dataclasses.replace(settings, gate=False))
    without = {name: array for name, array in arrays.items() if name != "block0.gate"}
    always.load(always.layout.pack(without))
    played = {}
    for gate in (-1e3, 1e3):
        arrays["block0.gate"][:-1] = 0.0
        arrays["block0.gate"][-1] = gate
        policy.load(policy.layout.pack(arrays))
        policy.reset(1)
        played[gate] = outputs(policy, seen)
    np.testing.assert_array_equal(played[1e3], outputs(always, seen))
    # with nothing remembered, a step depends on what it sees alone
    policy.load(policy.layout.pack(arrays | {"block0.gate": -arrays["block0.gate"]}))
    policy.reset(1)
    twice = outputs(policy, np.concatenate([seen[:4], seen[:4]] * 16))
    np.testing.assert_array_equal(twice[0:4], twice[64:68])  # periods of 4 and 64
    assert not np.array_equal(played[1e3][1:], played[-1e3][1:])


def test_it_recalls_what_was_seen_a_fixed_time_ago() -> None:
    """By hand: queries are the clock of three steps before, keys the clock, values the observation."""
    settings = ReformerSettings(
        width=SEEN + 2, head_size=SEEN + 2, clock=(16,), buckets=8, hashes=2
    )
    policy = ReformerPolicy(Interface(SEEN, SEEN, False), settings)
    eye = np.eye(SEEN + 2, dtype=np.float32)
    clock, observed = np.zeros_like(eye), np.zeros_like(eye)
    clock[SEEN:, SEEN:] = np.eye(2)
    observed[:SEEN, :SEEN] = np.eye(SEEN)
    angle = -2.0 * np.pi * 3 / 16
    turned = clock.copy()  # rows are inputs: (sin, cos) of t to those of t − 3
    turned[SEEN:, SEEN:] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    no_bias = np.zeros((1, SEEN + 2), np.float32)
    head = np.zeros((2 * (SEEN + 2) + 1, SEEN), np.float32)
    head[:SEEN] = np.eye(SEEN)  # stream 1 has the observation itself, too
    head[SEEN + 2 : 2 * SEEN + 2] = -np.eye(SEEN)
    policy.load(
        policy.layout.pack(
            {
                "embed": eye,
                "block0.query": np.concatenate([turned, no_bias]),
                "block0.key": np.concatenate([clock, no_bias]),
                "block0.value": observed,
                "block0.sharpness": [[6.0]],
                "block0.mix": observed,
                "head.layer0.w": head,
            }
        )
    )
    policy.reset(0)
    seen = np.random.default_rng(0).standard_normal((16, SEEN)).astype(np.float32)
    np.testing.assert_allclose(outputs(policy, seen)[3:], seen[:-3], atol=1e-4)


@pytest.mark.parametrize("attention", ["lsh", "full"])
def test_sharpness_is_a_factor_on_logits(attention: str) -> None:
    settings = dataclasses.replace(SMALL, attention=attention, blocks=2)
    interface = Interface(SEEN, SEEN, False)
    seen = np.random.default_rng(0).standard_normal((30, SEEN)).astype(np.float32)
    found = []
    for own, of_h in ((1.0, 0.0), (3.0, 0.0), (1.0, math.log(3.0))):
        policy = ReformerPolicy(interface, dataclasses.replace(settings, sharpness=own))
        arrays = policy.layout.unpack(policy.initial_parameters(0))
        for block in range(2):
            arrays[f"block{block}.sharpness"] = arrays[f"block{block}.sharpness"] + np.float32(of_h)
        policy.load(policy.layout.pack(arrays))
        policy.reset(0)
        found.append(outputs(policy, seen).copy())
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])


def test_a_plastic_head_is_the_hebbian_policy_behind_the_streams() -> None:
    settings = dataclasses.replace(SMALL, head="ABCD_lr", head_rate=0.5)
    policy, arrays = started(settings, bounded=True)
    features = 2 * SMALL.width + 1
    alone = HebbianPolicy(
        Interface(features, ACTIONS, True), HebbianSettings(hidden=(), rule="ABCD_lr", rate=0.5)
    )
    head = {n.removeprefix("head."): a for n, a in arrays.items() if n.startswith("head.")}
    alone.load(alone.layout.pack(head))
    alone.reset(1)
    seen = observations(60)
    streams = oracle.with_one(oracle.streams(arrays, settings, seen)).astype(np.float32)
    expected = np.array([alone.act(row).copy() for row in streams])
    np.testing.assert_allclose(outputs(policy, seen), expected, atol=1e-3)
    assert not np.array_equal(policy.act(seen[0]), expected[-1])


def test_an_infinite_observation_leaves_nothing_for_the_next_member() -> None:
    policy, arrays = started(SETTINGS["all of it"])
    first = outputs(policy, observations(30))
    for bad in (np.inf, np.nan):
        policy.load(np.full(policy.layout.size, bad, np.float32))
        policy.reset(1)
        assert np.isnan(outputs(policy, np.full((30, SEEN), bad, np.float32))).any()
        policy.load(policy.layout.pack(arrays))
        policy.reset(1)
        np.testing.assert_array_equal(outputs(policy, observations(30)), first)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_memory_takes_the_bytes_that_its_page_names(name: str) -> None:
    settings = SETTINGS[name]
    policy, _ = started(settings)
    full = settings.attention == "full"
    cap, lists = (
        (settings.capacity, 2) if full else (settings.cap, settings.hashes * settings.buckets)
    )
    key = 4 * 2 * -(-settings.head_size // 16) * 16 + 8
    own = key * settings.capacity + (8 * cap + 8) * lists
    memory, _ = policy.network
    _, rows, rings, filled, stamps, _ = memory.streams
    total = sum(array.nbytes for array in (rows, rings, filled, stamps))
    assert total == settings.blocks * settings.heads * own


def perpendicular(normal: np.ndarray) -> np.ndarray:
    """Its rows, or its columns if there are fewer, made perpendicular by numpy; each first number as it was signed."""
    tall = len(normal) > normal.shape[1]
    q, r = np.linalg.qr(normal if tall else normal.T)
    q *= np.sign(np.diag(r))
    return q if tall else q.T


# wide and tall: of 9 features 18 and 6 wide, 2 · 17 and 10 of keys, 20 and 4 units
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ["all of it", "a gate", "shared keys", "normalized"])
def test_at_first_matrices_are_perpendicular_biases_zero_and_keys_like_queries(
    name: str, order: str
) -> None:
    settings = dataclasses.replace(SETTINGS[name], order=order)
    policy = ReformerPolicy(Interface(SEEN, ACTIONS, False), settings)
    arrays = policy.layout.unpack(policy.initial_parameters(3))
    drawn = policy.layout.unpack(RememberingPolicy.initial_parameters(policy, 3))
    biased = ("query", "key", "gate", "feed1", "feed2")
    for array_name, array in arrays.items():
        block, _, part = array_name.partition(".")
        if block == "head":
            np.testing.assert_array_equal(array, drawn[array_name])
        elif part == "sharpness":
            np.testing.assert_array_equal(array, np.float32(0.5 * np.log(settings.head_size)))
        elif part == "key":
            np.testing.assert_array_equal(array, arrays[f"{block}.query"])
        else:
            if part in biased:
                assert (array[-1] == (settings.gate_bias if part == "gate" else 0.0)).all()
                array, drawn[array_name] = array[:-1], drawn[array_name][:-1]
            expected = perpendicular(drawn[array_name].astype(np.float64))
            np.testing.assert_allclose(array, expected, atol=1e-6)
            square = array.astype(np.float64)
            square = square.T @ square if len(array) > array.shape[1] else square @ square.T
            np.testing.assert_allclose(square, np.eye(len(square)), atol=1e-6)
    shapes = {len(array) > array.shape[1] for array in arrays.values()}
    assert shapes == {True, False}


def test_at_first_angles_are_kept_where_there_is_room_for_them() -> None:
    """Embedding, queries and keys of observations have their products; so what is alike is recalled."""
    settings = ReformerSettings(width=8, head_size=16, clock=(4,), keys="own")
    policy = ReformerPolicy(Interface(SEEN, ACTIONS, False), settings)
    arrays = policy.layout.unpack(policy.initial_parameters(4))
    seen = np.random.default_rng(0).standard_normal((20, SEEN + 2))
    embedded = seen @ arrays["embed"]
    for part in ("query", "key", "value"):
        read = embedded @ arrays[f"block0.{part}"][: settings.width]
        np.testing.assert_allclose(read @ read.T, seen @ seen.T, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("keys", ["own", "shared"])
def test_at_first_heads_divide_the_logit_of_what_is_alike(heads: int, keys: str) -> None:
    settings = ReformerSettings(width=32, head_size=32 // heads, heads=heads, keys=keys)
    policy = ReformerPolicy(Interface(SEEN, ACTIONS, False), settings)
    arrays = policy.layout.unpack(policy.initial_parameters(4))
    query = (np.eye(32)[0] @ arrays["block0.query"][:32]).reshape(heads, -1)
    key = query if keys == "own" else query / np.linalg.norm(query, axis=1, keepdims=True)
    logits = float(scale_of(settings.head_size, keys == "shared")) * (query * key).sum(1)
    logits *= np.exp(arrays["block0.sharpness"][0])
    alone = np.sqrt(settings.head_size) if keys == "shared" else 1.0
    parts = (logits / alone) ** (2 if keys == "shared" else 1)
    assert parts.sum() == pytest.approx(1.0)
    assert heads == 1 or (logits < 0.9 * alone).all()


def test_the_page_says_how_much_memory_a_clock_takes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text("utf-8")
    assert f"and {clock.FACE.itemsize} bytes per step of a period" in page
