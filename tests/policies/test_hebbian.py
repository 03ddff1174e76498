"""The compiled Hebbian step against the plain one, for every rule, normalization and activation."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from esd.policies.base import Interface
from esd.policies.hebbian import RULE_COEFFICIENTS, SCHEMES, HebbianPolicy, HebbianSettings
from esd.policies.perceptron import ACTIVATION_KINDS, NORMALIZATION_KINDS
from tests.helpers.oracles.hebbian import HebbianOracle

STEPS = 200


def started(
    config: HebbianSettings,
    interface: Interface,
    seed: int = 3,
    scale: float = 1.0,
    precision: type[np.floating] = np.float64,
) -> tuple[HebbianPolicy, HebbianOracle]:
    """A policy at the start of an episode, and the oracle with the same coefficients and weights."""
    policy = HebbianPolicy(interface, config)
    h = policy.initial_parameters(seed) * np.float32(scale)
    policy.load(h)
    policy.reset(seed)
    arrays = policy.layout.unpack(h)
    layers = len(config.hidden) + 1
    coefficients = [
        {name: arrays[f"layer{layer}.{name}"] for name in RULE_COEFFICIENTS[config.rule]}
        for layer in range(layers)
    ]
    oracle = HebbianOracle(
        coefficients,
        policy.weights(),
        config.normalization,
        config.activation,
        interface.bounded and config.output == "tanh",
        precision,
        config.freeze_after,
        config.rate,
        config.every,
        config.average,
    )
    return policy, oracle


def largest_difference(
    policy: HebbianPolicy | HebbianOracle, oracle: HebbianOracle, size: int, steps: int
) -> float:
    """Drive both by the same observations; the largest difference of outputs relative to max(1, |output|)."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for step in range(steps):
        observation = rng.standard_normal(size).astype(np.float32)
        if step:
            oracle.update()
        expected = oracle.forward(observation)
        if isinstance(policy, HebbianOracle):
            if step:
                policy.update()
            actual = policy.forward(observation)
        else:
            actual = policy.act(observation)
        error = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
        worst = max(worst, float(error.max()))
    return worst


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("rule", RULE_COEFFICIENTS)
@pytest.mark.parametrize("bounded", [False, True])
def test_every_rule_agrees_with_the_oracle_over_200_steps(
    rule: str, bounded: bool, seed: int
) -> None:
    """To 1e-5. Rule A amplifies roundings, in plain float32 numpy as well: there, to ten times what that is off."""
    config = HebbianSettings(rule=rule, hidden=(24, 10))
    policy, oracle = started(config, Interface(7, 5, bounded), seed)
    error = largest_difference(policy, oracle, 7, STEPS)
    if rule != "A":
        assert error < 1e-5
    else:
        _, oracle = started(config, Interface(7, 5, bounded), seed)
        _, plain = started(config, Interface(7, 5, bounded), seed, precision=np.float32)
        assert error < 10 * largest_difference(plain, oracle, 7, STEPS) < 1e-3


@pytest.mark.parametrize(
    ("normalization", "activation"), list(itertools.product(NORMALIZATION_KINDS, ACTIVATION_KINDS))
)
def test_every_normalization_and_activation_agrees_with_the_oracle(
    normalization: str, activation: str
) -> None:
    config = HebbianSettings(hidden=(17, 33), normalization=normalization, activation=activation)
    # unnormalized weights grow without bound, and relu or linear ones exponentially: few steps, small coefficients
    grows = normalization == "none"
    steps, scale = (20, 0.1) if grows else (STEPS, 1.0)
    policy, oracle = started(config, Interface(5, 3, False), scale=scale)
    assert largest_difference(policy, oracle, 5, steps) < 1e-5


def test_the_network_of_the_paper_agrees_with_the_oracle() -> None:
    policy, oracle = started(HebbianSettings(hidden=(128, 64)), Interface(28, 8, True))
    assert policy.layout.size == 61_440
    assert largest_difference(policy, oracle, 28, STEPS) < 1e-5


def test_the_oracle_and_the_kernel_differ_when_the_update_is_left_out() -> None:
    policy, oracle = started(HebbianSettings(hidden=(24, 10)), Interface(7, 5, False))
    oracle.update = lambda: None  # type: ignore[method-assign]
    assert largest_difference(policy, oracle, 7, 3) > 1e-2


def test_raw_outputs_are_what_the_rule_sees_and_the_world_squashes_them() -> None:
    config = HebbianSettings(hidden=(8,), output="raw", rate=0.1)
    policy, oracle = started(config, Interface(4, 3, True))
    assert not policy.squashed
    assert largest_difference(policy, oracle, 4, 40) < 1e-4  # of outputs up to 10
    squashing = HebbianPolicy(Interface(4, 3, True), HebbianSettings(hidden=(8,)))
    assert squashing.squashed
    logits = HebbianPolicy(Interface(4, 3, False), config)
    assert not logits.squashed


@pytest.mark.parametrize("rule", RULE_COEFFICIENTS)
def test_a_rate_scales_every_change_of_every_rule(rule: str) -> None:
    config = HebbianSettings(hidden=(8,), rule=rule, rate=0.02, initial_weights="uniform_wide")
    policy, oracle = started(config, Interface(4, 3, True))
    assert largest_difference(policy, oracle, 4, 40) < 1e-5
    whole, _ = started(dataclasses.replace(config, rate=1.0), Interface(4, 3, True))
    assert largest_difference(whole, started(config, Interface(4, 3, True))[1], 4, 5) > 1e-2


@pytest.mark.parametrize("freeze_after", [1, 3, STEPS])
@pytest.mark.parametrize("normalization", NORMALIZATION_KINDS)
def test_frozen_plasticity_agrees_with_the_oracle(normalization: str, freeze_after: int) -> None:
    config = HebbianSettings(hidden=(9,), normalization=normalization, freeze_after=freeze_after)
    policy, oracle = started(config, Interface(4, 2, False), scale=0.1)
    steps = 20 if normalization == "none" else STEPS
    assert largest_difference(policy, oracle, 4, steps) < 1e-5


@pytest.mark.parametrize("normalization", NORMALIZATION_KINDS)
@pytest.mark.parametrize("freeze_after", [1, 4])
def test_the_updates_of_the_first_steps_are_made_and_later_ones_are_not(
    normalization: str, freeze_after: int
) -> None:
    frozen, free = (
        HebbianPolicy(
            Interface(4, 2, False),
            HebbianSettings(hidden=(9,), normalization=normalization, freeze_after=k),
        )
        for k in (freeze_after, 0)
    )
    h = free.initial_parameters(0)
    for episode in range(2):  # the second begins plastic again
        for policy in (frozen, free):
            policy.load(h)
            policy.reset(episode)
        weights = []
        for step in range(8):
            observation = np.full(4, 0.1 * (step + 1), np.float32)
            outputs = [policy.act(observation).copy() for policy in (frozen, free)]
            # a step's update is made before the next one acts: step k + 1, counted from 1, sees the k-th
            assert np.array_equal(*outputs) == (step <= freeze_after)
            weights.append([layer.copy() for layer in frozen.weights()])
        changed = [
            not np.array_equal(now[0], before[0]) for before, now in itertools.pairwise(weights)
        ]
        assert changed == [step < freeze_after for step in range(7)]


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATION_KINDS)
def test_updates_of_every_fourth_step_agree_with_the_oracle(
    normalization: str, average: bool
) -> None:
    config = HebbianSettings(
        hidden=(17, 9), normalization=normalization, every=4, average=average, freeze_after=17
    )
    interface = Interface(5, 3, True)
    policy, oracle = started(config, interface, scale=0.1)
    assert largest_difference(policy, oracle, 5, 30) < 1e-5
    # and it is these settings that the oracle follows
    for other in ({"every": 3}, {"average": not average}):
        policy, _ = started(dataclasses.replace(config, **other), interface, scale=0.1)
        _, oracle = started(config, interface, scale=0.1)
        assert largest_difference(policy, oracle, 5, 30) > 1e-4


def test_weights_change_after_every_third_step_and_a_new_episode_counts_from_its_start() -> None:
    settings = HebbianSettings(hidden=(9,), every=3, average=True)
    policy = HebbianPolicy(Interface(4, 2, False), settings)
    h = policy.initial_parameters(0)
    played = []
    for steps in (11, 8):  # the first episode ends in between two updates
        policy.load(h)
        policy.reset(0)
        weights = []
        for step in range(steps):
            policy.act(np.full(4, 0.1 * (step + 1), np.float32))
            weights.append(policy.weights()[0].copy())
        changed = [not np.array_equal(*pair) for pair in itertools.pairwise(weights)]
        assert changed == [step % 3 == 0 for step in range(1, steps)]
        played.append(weights[:8])
    np.testing.assert_array_equal(*played)


def test_a_mean_of_one_step_is_that_step() -> None:
    """Bit for bit, zeros with a sign included: there is nothing to average with every = 1."""
    interface = Interface(4, 2, False)
    outputs = []
    for average in (False, True):
        policy, _ = started(HebbianSettings(hidden=(9,), average=average), interface)
        outputs.append([policy.act(np.float32([0.3, -0.0, 0.0, 1])).tobytes() for _ in range(9)])
    assert outputs[0] == outputs[1]


def test_a_scale_makes_the_first_coefficients_small_but_not_coevolved_weights() -> None:
    interface = Interface(5, 3, False)
    settings = HebbianSettings(initial_weights="coevolved")
    whole, small = (
        policy.layout.unpack(policy.initial_parameters(2))
        for policy in (
            HebbianPolicy(interface, settings),
            HebbianPolicy(interface, dataclasses.replace(settings, coefficient_scale=0.01)),
        )
    )
    for name, array in whole.items():
        factor = 1.0 if name.endswith(".w") else 0.01
        np.testing.assert_array_equal(small[name], array * np.float32(factor))


@pytest.mark.parametrize("normalization", ["max", "l2"])
def test_weights_are_normalized_after_every_update(normalization: str) -> None:
    policy, _ = started(
        HebbianSettings(hidden=(9,), normalization=normalization), Interface(4, 2, False)
    )
    for _ in range(3):
        policy.act(np.ones(4, np.float32))
    for weights in policy.weights():
        size = np.abs(weights).max() if normalization == "max" else np.linalg.norm(weights)
        assert size == pytest.approx(1.0, abs=1e-6)


def test_there_is_no_update_before_the_first_forward_pass() -> None:
    policy, oracle = started(HebbianSettings(hidden=(9,)), Interface(4, 2, False))
    before = [w.copy() for w in policy.weights()]
    policy.act(np.ones(4, np.float32))
    for old, new in zip(before, policy.weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert oracle.weights[0].shape == (4, 9)


def test_zero_weights_and_zero_coefficients_are_not_divided_by_zero() -> None:
    config = HebbianSettings(hidden=(6,), initial_weights="zeros")
    policy = HebbianPolicy(Interface(4, 2, False), config)
    policy.load(np.zeros(policy.layout.size, np.float32))
    policy.reset(0)
    for _ in range(3):
        np.testing.assert_array_equal(policy.act(np.ones(4, np.float32)), 0.0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_of_initial_weights_has_its_scale_and_is_drawn_per_episode(
    scheme: str,
) -> None:
    config = HebbianSettings(hidden=(64,), initial_weights=scheme)
    policy = HebbianPolicy(Interface(50, 20, False), config)
    policy.load(policy.initial_parameters(1))

    def drawn(seed: int) -> np.ndarray:
        policy.reset(seed)
        return policy.weights()[0].copy()

    first, again, other = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(first, again)
    fixed = scheme in ("ones", "zeros", "coevolved")
    assert np.array_equal(first, other) == fixed
    largest, deviation = {
        "uniform": (0.1, 0.1 / 3**0.5),
        "normal": (0.15, 0.024),
        "uniform_wide": (1.0, 1 / 3**0.5),
        "xavier": ((6 / 114) ** 0.5, (2 / 114) ** 0.5),
        "kaiming": ((6 / 50) ** 0.5, (2 / 50) ** 0.5),
        "sparse": (0.06, 0.01 * 0.2**0.5),
        "ones": (1.0, 0.0),
        "zeros": (0.0, 0.0),
        "coevolved": (0.1, 0.1 / 3**0.5),
    }[scheme]
    assert np.abs(first).max() <= largest + 1e-7
    assert first.std() == pytest.approx(deviation, rel=0.1, abs=1e-7)
    if scheme == "sparse":
        assert (first == 0.0).mean() == pytest.approx(0.8, abs=0.03)


def test_coevolved_weights_are_part_of_h() -> None:
    config = HebbianSettings(hidden=(6,), initial_weights="coevolved", rule="A")
    policy = HebbianPolicy(Interface(4, 2, False), config)
    assert policy.layout.size == 2 * (24 + 12)
    h = policy.initial_parameters(0)
    policy.load(h)
    policy.reset(0)
    np.testing.assert_array_equal(policy.weights()[0], policy.layout.unpack(h)["layer0.w"])


@pytest.mark.parametrize("initial_weights", ["uniform", "coevolved"])
def test_order_f_and_c_describe_the_same_network(initial_weights: str) -> None:
    interface = Interface(5, 3, False)
    outputs = []
    policies = [
        HebbianPolicy(
            interface, HebbianSettings(hidden=(7,), order=order, initial_weights=initial_weights)
        )
        for order in ("C", "F")
    ]
    h_c = policies[0].initial_parameters(2)
    h_f = policies[1].layout.pack(policies[0].layout.unpack(h_c))
    for policy, h in zip(policies, (h_c, h_f), strict=True):
        policy.load(h)
        policy.reset(1)
        for _ in range(4):
            output = policy.act(np.full(5, 0.3, np.float32)).copy()
        outputs.append(output)
    assert not np.array_equal(h_c, h_f)
    np.testing.assert_array_equal(*outputs)


def test_uniform_coefficients_lie_within_one() -> None:
    policy = HebbianPolicy(Interface(5, 3, False), HebbianSettings(coefficients="uniform"))
    h = policy.initial_parameters(0)
    assert np.abs(h).max() <= 1.0
    assert h.std() == pytest.approx(1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("normalization", ["max", "l2", "none"])
def test_an_infinite_observation_leaves_nothing_for_the_next_member(
    normalization: str, every: int
) -> None:
    """Law 1: padding, factors and sums are memory, too."""
    settings = HebbianSettings(
        hidden=(4,), normalization=normalization, every=every, average=every > 1
    )
    fresh, used = (HebbianPolicy(Interface(3, 2, True), settings) for _ in range(2))
    h = fresh.initial_parameters(0)
    play(used, h, np.float32([np.inf, 1.0, 1.0]))
    ones = np.ones(3, np.float32)
    np.testing.assert_array_equal(play(used, h, ones), play(fresh, h, ones))


@pytest.mark.parametrize("rule", [rule for rule in RULE_COEFFICIENTS if "lr" in rule])
def test_an_infinite_eta_leaves_nothing_for_the_next_member(rule: str) -> None:
    """Law 1: neither in the coefficients that the rule lacks."""
    settings = HebbianSettings(hidden=(4,), rule=rule)
    fresh, used = (HebbianPolicy(Interface(3, 2, True), settings) for _ in range(2))
    h, ones = fresh.initial_parameters(0), np.ones(3, np.float32)
    overflown = h.copy()
    fresh.layout.unpack(overflown)["layer0.eta"][...] = np.inf
    play(used, overflown, ones)
    np.testing.assert_array_equal(play(used, h, ones), play(fresh, h, ones))


def play(policy: HebbianPolicy, h: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """The outputs of the fifth step of an episode that always looks the same."""
    policy.load(h)
    policy.reset(1)
    return [policy.act(observation).copy() for _ in range(5)][-1]
