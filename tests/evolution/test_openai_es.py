"""The update h ← h + α/(nσ) Σ Fᵢ εᵢ: literally, for every shaping and optimizer, and as an unbiased gradient."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from esd.config.kinds import OPTIMIZERS
from esd.evolution.algorithm import EvolutionState
from esd.evolution.noise import NOISE_KINDS, Noise, Purpose, normals
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.schedules import Decay
from esd.evolution.shaping import SHAPINGS
from tests.helpers.oracles import philox as oracle

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

SEED = 0xABCDEF0123456789
SIZE = 4096 + 300
INVARIANT = ("centered_rank", "centered_rank_unit", "standardize")

shapings = pytest.mark.parametrize("shaping", SHAPINGS)
# what one of them makes of a gradient, test_optimizers.py holds for all
optimizers = pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "clipup"])


def make(
    *,
    shaping: str = "centered_rank",
    optimizer: str = "sgd",
    noise: str = "gaussian",
    population: int = 20,
    sigma: Decay | None = None,
    learning_rate: Decay | None = None,
    weight_decay: float = 0.0,
) -> Strategy:
    return Strategy(
        Noise(noise, SEED),
        population,
        sigma or Decay(0.1),
        learning_rate or Decay(0.05),
        make_optimizer(optimizer),
        shaping,
        weight_decay,
    )


def initial_h(size: int = SIZE) -> Float32s:
    return normals(SEED, Purpose.INITIAL_H, size)


def some_fitness(generation: int, population: int = 20) -> Float64s:
    return 100.0 * np.random.default_rng(generation).normal(size=population)


# ---- an independent version: no pairs, no float32, one term per member


@functools.cache
def signed_epsilon(noise: str, member: int, generation: int) -> Float64s:
    e = oracle.epsilon(noise, SEED, member // 2, generation, 0, SIZE).astype(np.float64)
    return e if member % 2 == 0 else -e


def plainly_shaped(name: str, fitness: Float64s) -> Float64s:
    """For fitness that is finite and without ties."""
    ranks = np.argsort(np.argsort(fitness)) / (fitness.size - 1) - 0.5
    return {
        "centered_rank": ranks,
        "centered_rank_unit": ranks / np.std(ranks),
        "standardize": (fitness - np.mean(fitness)) / np.std(fitness),
        "raw": fitness,
        "sign": np.repeat(np.sign(fitness[0::2] - fitness[1::2]), 2)
        / 2
        * np.tile([1, -1], fitness.size // 2),
    }[name]


class PlainOptimizer:
    """The four optimizers in float64, at their default settings."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.t = name, 0
        self.v = np.zeros(size)
        self.s = np.zeros(size)

    def step(self, g: Float64s, alpha: float) -> Float64s:
        self.t += 1
        if self.name == "sgd":
            return alpha * g
        if self.name == "momentum":
            self.v = 0.9 * self.v + g
            return alpha * self.v
        if self.name == "adam":
            self.v = 0.9 * self.v + 0.1 * g
            self.s = 0.999 * self.s + 0.001 * g**2
            m_hat, v_hat = self.v / (1 - 0.9**self.t), self.s / (1 - 0.999**self.t)
            return alpha * m_hat / (np.sqrt(v_hat) + 1e-8)
        self.v = 0.9 * self.v + alpha * g / np.linalg.norm(g)
        self.v *= min(1.0, 2 * alpha / float(np.linalg.norm(self.v)))
        return self.v


@shapings
@optimizers
def test_updates_equal_an_independent_version_in_float64(shaping: str, optimizer: str) -> None:
    """Ten generations with decaying α and σ and with weight decay; α is such that every step is between 0.005 and 0.5.

    The rounding of h itself, 2.4e-7 a generation where |h| is about 4, makes up most of the bound of 2e-6.
    """
    alpha = {"adam": 1e-2, "clipup": 0.3}.get(optimizer, 1e-4 if shaping == "raw" else 1e-2)
    sigma, rate = Decay(0.1, 0.9, 0.05), Decay(alpha, 0.95, alpha / 2)
    strategy = make(
        shaping=shaping, optimizer=optimizer, sigma=sigma, learning_rate=rate, weight_decay=0.3
    )
    state = strategy.start(initial_h())
    h, plain = initial_h().astype(np.float64), PlainOptimizer(optimizer, SIZE)
    s, a = 0.1, alpha
    for t in range(10):
        fitness = some_fitness(t)
        state = strategy.tell(state, fitness)
        shaped = plainly_shaped(shaping, fitness)
        total = sum(shaped[i] * signed_epsilon("gaussian", i, t) for i in range(20))
        step = plain.step(total / (20 * s), a)
        assert 5e-3 <= np.abs(step).max() <= 0.5
        h = h + step - a * 0.3 * h
        s, a = max(0.05, 0.9 * s), max(alpha / 2, 0.95 * a)
    assert state.h.dtype == np.float32
    assert np.abs(state.h - h).max() <= 2e-6


@pytest.mark.parametrize("noise", NOISE_KINDS)
def test_update_is_literally_the_formula(noise: str) -> None:
    """The step is α/(nσ) Σ Fᵢ εᵢ, with Fᵢ as given (raw), εᵢ from the members that were asked for, and plain SGD.

    εᵢ = (member − h)/σ loses digits in float32, hence h = 0, where it is exact but for the rounding of σε.
    """
    n, sigma, alpha = 30, 0.25, 0.5
    strategy = make(
        shaping="raw",
        noise=noise,
        population=n,
        sigma=Decay(sigma),
        learning_rate=Decay(alpha),
    )
    state = strategy.start(np.zeros(SIZE, np.float32))
    fitness = some_fitness(1, n)
    delta = np.stack([strategy.ask(state, i, np.empty(SIZE, np.float32)) for i in range(n)])
    epsilon = delta.astype(np.float64) / sigma
    expected = alpha / (n * sigma) * (fitness @ epsilon)
    actual = strategy.tell(state, fitness).h
    assert np.abs(actual - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.abs(expected).max() > 1.0


def test_gradient_of_one_pair_by_hand() -> None:
    """With n = 2, F = (3, 1) and σ = ½, g = 1/(2·½) (3ε − ε) = 2ε, exactly."""
    strategy = make(shaping="raw", population=2, sigma=Decay(0.5), learning_rate=Decay(1.0))
    state = strategy.start(np.zeros(SIZE, np.float32))
    epsilon = oracle.epsilon("gaussian", SEED, 0, 0, 0, SIZE)
    fitness = np.array([3.0, 1.0])
    assert np.array_equal(strategy.pair_weights(fitness, 0.5), np.array([2.0], np.float32))
    assert np.array_equal(strategy.gradient(state, fitness), 2 * epsilon)
    assert np.array_equal(strategy.tell(state, fitness).h, 2 * epsilon)


def test_members_are_h_plus_and_minus_sigma_epsilon_of_their_generation() -> None:
    strategy = make()
    h = initial_h()
    for generation in (0, 1, 7):
        state = EvolutionState(generation, h, {}, {"sigma": 0.03, "learning_rate": 0.1})
        for member in (0, 1, 18, 19):
            actual = strategy.ask(state, member, np.empty_like(h))
            expected = oracle.perturb("gaussian", SEED, h, 0.03, member, generation)
            assert actual.tobytes() == expected.tobytes()


def test_gradient_is_the_oracles_sum_bit_for_bit_in_every_generation() -> None:
    """What makes h the same bits on any machine (laws 2 and 4)."""
    strategy = make()
    for generation in (0, 1, 2, 1000):
        state = EvolutionState(generation, initial_h(), {}, {"sigma": 0.1, "learning_rate": 0.1})
        fitness = some_fitness(generation)
        shaped = plainly_shaped("centered_rank", fitness)
        weights = ((shaped[0::2] - shaped[1::2]) / (20 * 0.1)).astype(np.float32)
        expected = oracle.accumulate("gaussian", SEED, weights, generation, 0, SIZE)
        assert strategy.gradient(state, fitness).tobytes() == expected.tobytes()


# ---- what must not move h


@pytest.mark.parametrize("value", [0.0, 0.1, -123.456, 1e9, np.nan, -np.inf])
@pytest.mark.parametrize("population", [2, 20, 100, 256])
@pytest.mark.parametrize("shaping", INVARIANT)
def test_equal_fitness_leaves_h_bit_for_bit(shaping: str, population: int, value: float) -> None:
    """Also where every member failed; and −0 in h stays −0."""
    h = initial_h()
    h[:3] = [0.0, -0.0, 1e-42]
    strategy = make(shaping=shaping, population=population)
    state = strategy.tell(strategy.start(h), np.full(population, value))
    assert state.generation == 1
    assert np.array_equal(state.h.view("u4")[2:], h.view("u4")[2:])
    assert np.array_equal(state.h[:2], [0.0, 0.0])


@optimizers
@shapings
def test_equal_fitness_of_mirrored_pairs_is_a_zero_gradient(shaping: str, optimizer: str) -> None:
    """A pair whose two members do equally well says nothing, however well they do."""
    fitness = np.repeat(some_fitness(3, 10), 2)
    strategy = make(shaping=shaping, optimizer=optimizer)
    state = strategy.start(initial_h())
    assert not strategy.gradient(state, fitness).any()
    assert np.array_equal(strategy.tell(state, fitness).h, initial_h())


@optimizers
@shapings
@pytest.mark.parametrize("failure", [np.nan, np.inf, -np.inf])
def test_failures_rank_worst_and_never_move_h_to_nan(
    failure: float, shaping: str, optimizer: str
) -> None:
    """One failed member is the same as one with the worst fitness, and h moves away from it."""
    strategy = make(shaping=shaping, optimizer=optimizer)
    fitness = some_fitness(4)
    fitness[6] = failure
    worst = np.where(np.isfinite(fitness), fitness, np.nanmin(fitness[np.isfinite(fitness)]))
    if shaping.startswith("centered_rank"):
        worst[6] -= 1.0
    state = strategy.start(initial_h())
    after = strategy.tell(state, fitness)
    assert np.isfinite(after.h).all()
    assert all(np.isfinite(moment).all() for moment in after.vectors.values())
    assert after.h.tobytes() == strategy.tell(state, worst).h.tobytes()
    assert strategy.gradient(state, fitness) @ signed_epsilon("gaussian", 6, 0) < 0


@optimizers
@shapings
def test_a_run_of_failures_keeps_everything_finite(shaping: str, optimizer: str) -> None:
    strategy = make(shaping=shaping, optimizer=optimizer)
    state = strategy.start(initial_h())
    for t in range(12):
        fitness = some_fitness(t)
        fitness[np.random.default_rng(100 + t).random(20) < t / 11] = [np.nan, np.inf, -np.inf][
            t % 3
        ]
        state = strategy.tell(state, fitness)
        assert np.isfinite(state.h).all()
    assert not np.array_equal(state.h, initial_h())


# ---- an unbiased gradient


def mean_gradient(
    strategy: Strategy, h: Float32s, f: Callable[[Float64s], Float64s], generations: int
) -> tuple[Float64s, Float64s]:
    """Mean of the estimated gradient at h over generations, and its standard error."""
    n = strategy.population
    estimates, members = [], np.empty((n, h.size), np.float32)
    for generation in range(generations):
        state = replace(strategy.start(h), generation=generation)
        for member in range(n):
            strategy.ask(state, member, members[member])
        estimates.append(strategy.gradient(state, f(members.astype(np.float64))))
    g = np.array(estimates, np.float64)
    return g.mean(axis=0), g.std(axis=0, ddof=1) / math.sqrt(generations)


@pytest.mark.parametrize("noise", NOISE_KINDS)
@pytest.mark.parametrize("seed", [1, 2**40])
def test_the_mean_gradient_on_a_quadratic_is_the_true_one(noise: str, seed: int) -> None:
    """f(x) = −½ xᵀAx + bᵀx, whose Gaussian smoothing has the gradient b − Ah; within 5 standard errors each."""
    rng = np.random.default_rng(7)
    root = rng.normal(size=(6, 6))
    a, b = root @ root.T / 6, rng.normal(size=6)
    h = rng.normal(size=6).astype(np.float32)

    def f(x: Float64s) -> Float64s:
        return -0.5 * np.einsum("ni,ij,nj->n", x, a, x) + x @ b

    strategy = replace(
        make(shaping="raw", population=16, sigma=Decay(0.7)), noise=Noise(noise, seed)
    )
    mean, error = mean_gradient(strategy, h, f, 2_000)
    exact = b - a @ h
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(exact), "too noisy to show anything"
    assert np.all(np.abs(mean - exact) <= 5 * error)


def test_the_mean_gradient_is_that_of_the_function_smoothed_with_deviation_sigma() -> None:
    """f(x) = Σ x³ smoothed by N(0, σ²) has the gradient 3h² + 3σ²: a σ that is a variance would show."""
    h = np.array([0.5, -1.0, 0.0, 0.2], np.float32)
    strategy = make(shaping="raw", population=16, sigma=Decay(0.8))
    mean, error = mean_gradient(strategy, h, lambda x: (x**3).sum(axis=1), 3_000)
    exact = 3 * h.astype(np.float64) ** 2 + 3 * 0.8**2
    assert np.all(error < 0.1)
    assert np.all(np.abs(mean - exact) <= 5 * error)


def test_mirrored_pairs_cancel_what_is_even_about_the_center() -> None:
    """F = a constant + |ε|² says nothing about a direction: the gradient is zero but for rounding."""
    strategy = make(shaping="raw", population=8, sigma=Decay(0.5))
    mean, _ = mean_gradient(strategy, np.zeros(5, np.float32), lambda x: 9 + (x**2).sum(axis=1), 50)
    assert np.abs(mean).max() <= 1e-6


@shapings
def test_repeated_updates_climb_a_quadratic(shaping: str) -> None:
    """To within a hundredth of the starting height, with all shapings; esd maximizes."""
    target = normals(3, Purpose.INITIAL_H, 20)
    strategy = make(
        shaping=shaping, population=40, sigma=Decay(0.05), learning_rate=Decay(0.1, 0.985)
    )
    state = strategy.start(np.zeros(20, np.float32))
    members = np.empty((40, 20), np.float32)
    for _ in range(300):
        for member in range(40):
            strategy.ask(state, member, members[member])
        state = strategy.tell(state, -np.square(members - target).sum(axis=1, dtype=np.float64))
    assert np.square(state.h - target).sum() < 0.01 * np.square(target).sum()


# ---- schedules, weight decay, shapes, purity


@pytest.mark.parametrize("optimizer", OPTIMIZERS.built_in)
def test_schedules_decay_by_multiplication_down_to_their_floors(optimizer: str) -> None:
    """As numbers in the state: bit for bit what multiplying on gives, not start·factorᵗ."""
    strategy = make(
        optimizer=optimizer, sigma=Decay(0.1, 0.93, 0.02), learning_rate=Decay(0.3, 0.81, 0.05)
    )
    state = strategy.start(initial_h(100))
    sigma, alpha = 0.1, 0.3
    for t in range(40):
        assert state.generation == t
        assert (state.scalars["sigma"], state.sigma) == (sigma, sigma)
        assert state.scalars["learning_rate"] == alpha
        state = strategy.tell(state, some_fitness(t))
        sigma, alpha = max(0.02, sigma * 0.93), max(0.05, alpha * 0.81)
    assert (sigma, alpha) == (0.02, 0.05)


def test_a_state_is_all_that_an_update_depends_on() -> None:
    """A strategy built anew goes on from a copied state to the same bits: nothing is recomputed from t."""
    settings = {
        "optimizer": "adam",
        "shaping": "standardize",
        "sigma": Decay(0.1, 0.9),
        "learning_rate": Decay(0.1, 0.9),
    }
    state = make(**settings).start(initial_h())  # type: ignore[arg-type]
    for t in range(3):
        state = make(**settings).tell(state, some_fitness(t))  # type: ignore[arg-type]
    copied = EvolutionState(
        state.generation,
        state.h.copy(),
        {name: moment.copy() for name, moment in state.vectors.items()},
        dict(state.scalars),
    )
    a, b = (make(**settings).tell(s, some_fitness(9)) for s in (state, copied))  # type: ignore[arg-type]
    assert a.h.tobytes() == b.h.tobytes()
    assert a.scalars == b.scalars
    assert all(a.vectors[name].tobytes() == b.vectors[name].tobytes() for name in a.vectors)


@optimizers
def test_weight_decay_shrinks_h_apart_from_the_gradient(optimizer: str) -> None:
    """With and without it the gradient, the moments and the increment are the same; h differs by α·decay·h."""
    h, fitness = initial_h(), some_fitness(0)
    without = make(optimizer=optimizer)
    with_decay = make(optimizer=optimizer, weight_decay=0.2)
    a, b = (s.tell(s.start(h), fitness) for s in (without, with_decay))
    assert np.array_equal(
        without.gradient(without.start(h), fitness), with_decay.gradient(without.start(h), fitness)
    )
    assert all(np.array_equal(a.vectors[name], b.vectors[name]) for name in a.vectors)
    assert np.array_equal(b.h, a.h - np.float32(0.05 * 0.2) * h)


def test_weight_decay_alone_shrinks_h_geometrically() -> None:
    strategy = make(learning_rate=Decay(0.1), weight_decay=0.5)
    state = strategy.start(initial_h())
    for _ in range(10):
        state = strategy.tell(state, np.zeros(20))
    assert np.abs(state.h - 0.95**10 * initial_h()).max() <= 1e-6


@pytest.mark.parametrize("shape", [(19,), (21,), (0,), (20, 1), (1, 20), (10, 2), ()])
def test_tell_refuses_anything_but_one_fitness_per_member(shape: tuple[int, ...]) -> None:
    strategy = make()
    with pytest.raises(ValueError, match=r"expected \(20,\)"):
        strategy.tell(strategy.start(initial_h()), np.zeros(shape))


@optimizers
def test_tell_leaves_its_arguments_alone_and_returns_new_memory(optimizer: str) -> None:
    strategy = make(optimizer=optimizer, weight_decay=0.1)
    state = strategy.tell(strategy.start(initial_h()), some_fitness(0))
    fitness = some_fitness(1)
    arrays = [state.h, *state.vectors.values(), fitness]
    copies, scalars = [array.copy() for array in arrays], dict(state.scalars)
    after = strategy.tell(state, fitness)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))
    assert state.scalars == scalars
    assert not any(
        np.shares_memory(a, b) for a in arrays for b in (after.h, *after.vectors.values())
    )
    again = strategy.tell(state, fitness)
    assert again.h.tobytes() == after.h.tobytes()


def test_start_has_zero_moments_and_the_schedules_starts() -> None:
    state = make(optimizer="adam", sigma=Decay(0.2, 0.5), learning_rate=Decay(0.3, 0.5)).start(
        initial_h()
    )
    assert state.generation == 0
    assert set(state.vectors) == {"first_moment", "second_moment"}
    assert not any(moment.any() for moment in state.vectors.values())
    assert state.scalars == {
        "sigma": 0.2,
        "learning_rate": 0.3,
        "beta1_power": 1.0,
        "beta2_power": 1.0,
    }
