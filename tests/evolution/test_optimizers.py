"""Each optimizer against its paper's formulas in float64, and on slices against the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from esd.config.kinds import OPTIMIZERS
from esd.errors import UsageError
from esd.evolution import vectors
from esd.evolution.noise import Purpose, normals
from esd.evolution.optimizers import Ascent, Moments, Optimizer, Scalars, make_optimizer
from esd.evolution.vectors import Norm, euclidean_norm
from esd.kernels.reduce import block_sums_of_squares, in_order

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

STEPS = 50
SIZE = 3 * 4096 + 100
ALPHA = 0.03


def gradients(steps: int = STEPS, size: int = SIZE) -> list[Float32s]:
    """A slowly turning gradient with noise, whose length varies a hundredfold, and once zero."""
    base = normals(1, Purpose.INITIAL_H, size)
    result = [
        np.float32(10.0 ** math.sin(t)) * (base + normals(2, Purpose.INITIAL_H, size, t))
        for t in range(steps)
    ]
    return [g if t != 7 else np.zeros_like(g) for t, g in enumerate(result)]


def learning_rate(t: int) -> float:
    return ALPHA * 0.97**t


def step(
    optimizer: Optimizer,
    gradient: Float32s,
    moments: Moments,
    scalars: Scalars,
    alpha: float,
    norm: Norm,
) -> tuple[Float32s, dict[str, Float32s], dict[str, float]]:
    """The increment, the next moments and scalars, all in new memory."""
    increment = gradient.copy()
    following = {name: np.full_like(moment, np.nan) for name, moment in moments.items()}
    new_scalars = optimizer.step(Ascent(increment, moments, following, scalars, alpha, norm))
    return increment, following, new_scalars


def sgd(gs: list[Float64s]) -> Iterator[Float64s]:
    for t, g in enumerate(gs):
        yield learning_rate(t) * g


def momentum(gs: list[Float64s], m: float = 0.9) -> Iterator[Float64s]:
    v = np.zeros(gs[0].size)
    for t, g in enumerate(gs):
        v = m * v + g
        yield learning_rate(t) * v


def adam(
    gs: list[Float64s], beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Iterator[Float64s]:
    """Kingma & Ba 2015, algorithm 1, with the sign of ascent."""
    m, v = np.zeros(gs[0].size), np.zeros(gs[0].size)
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        yield learning_rate(t - 1) * m_hat / (np.sqrt(v_hat) + epsilon)


def clipup(gs: list[Float64s], m: float = 0.9, max_speed: float = 0.0) -> Iterator[Float64s]:
    """Toklu et al. 2020, algorithm 1; without a maximum speed it is twice the step size."""
    v = np.zeros(gs[0].size)
    for t, g in enumerate(gs):
        alpha = learning_rate(t)
        fastest = max_speed or 2 * alpha
        length = np.linalg.norm(g)
        v = m * v + (alpha * g / length if length else 0.0)
        speed = np.linalg.norm(v)
        if speed > fastest:
            v = fastest * v / speed
        yield v


# name, settings, the plain version
CASES: list[tuple[str, dict[str, float], Any]] = [
    ("sgd", {}, sgd),
    ("momentum", {}, momentum),
    ("momentum", {"momentum": 0.5}, lambda gs: momentum(gs, 0.5)),
    ("adam", {}, adam),
    ("adam", {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-2}, lambda gs: adam(gs, 0.5, 0.9, 1e-2)),
    ("clipup", {}, clipup),
    ("clipup", {"momentum": 0.5, "max_speed": 0.031}, lambda gs: clipup(gs, 0.5, 0.031)),
]
NAMES = [f"{name} {settings}" for name, settings, _ in CASES]


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_every_optimizer_has_a_case_with_its_formulas(name: str) -> None:
    assert name in {case for case, _, _ in CASES}


@pytest.mark.parametrize(("name", "settings", "plain"), CASES, ids=NAMES)
def test_fifty_steps_equal_the_formulas_in_float64(
    name: str, settings: dict[str, float], plain: Any
) -> None:
    """Within 1e-6 of the step's largest component: float32 keeps 6e-8, moments add up some fifty roundings."""
    optimizer = make_optimizer(name, **settings)
    moments = {key: np.zeros(SIZE, np.float32) for key in optimizer.moment_names}
    scalars: dict[str, float] = optimizer.initial_scalars()
    gs = gradients()
    for t, expected in enumerate(plain([g.astype(np.float64) for g in gs])):
        increment, moments, scalars = step(
            optimizer, gs[t], moments, scalars, learning_rate(t), euclidean_norm
        )
        assert increment.dtype == np.float32
        error = np.abs(increment - expected).max()
        assert error <= 1e-6 * np.abs(expected).max(), f"step {t} of {name} is off by {error}"


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_a_first_step_goes_uphill(name: str) -> None:
    g = gradients(1)[0]
    optimizer = make_optimizer(name)
    moments = {key: np.zeros(SIZE, np.float32) for key in optimizer.moment_names}
    increment, _, _ = step(optimizer, g, moments, optimizer.initial_scalars(), 0.1, euclidean_norm)
    assert float(increment @ g) > 0.9 * math.sqrt(2 / math.pi) * float(
        np.linalg.norm(increment) * np.linalg.norm(g)
    )


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_zero_gradient_and_fresh_moments_give_no_step(name: str) -> None:
    optimizer = make_optimizer(name)
    zero = np.zeros(100, np.float32)
    moments = {key: zero for key in optimizer.moment_names}
    increment, after, _ = step(
        optimizer, zero, moments, optimizer.initial_scalars(), 0.1, euclidean_norm
    )
    assert not increment.any()
    assert not any(moment.any() for moment in after.values())


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_a_step_changes_neither_its_moments_nor_its_scalars(name: str) -> None:
    optimizer = make_optimizer(name)
    first, second = gradients(2)
    moments = {key: np.zeros(SIZE, np.float32) for key in optimizer.moment_names}
    _, moments, scalars = step(
        optimizer, first, moments, optimizer.initial_scalars(), 0.1, euclidean_norm
    )
    copies, old_scalars = [array.copy() for array in moments.values()], dict(scalars)
    step(optimizer, second, moments, scalars, 0.1, euclidean_norm)
    assert all(np.array_equal(a, b) for a, b in zip(moments.values(), copies, strict=True))
    assert scalars == old_scalars


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_the_size_of_pieces_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = make_optimizer(name)
    results = []
    for size in (65_536, 1_000, 17):
        monkeypatch.setattr(vectors, "PIECE", size)
        moments = {key: np.zeros(SIZE, np.float32) for key in optimizer.moment_names}
        scalars: Scalars = optimizer.initial_scalars()
        for g in gradients(3):
            increment, moments, scalars = step(optimizer, g, moments, scalars, 0.1, euclidean_norm)
        results.append([increment.tobytes(), *(m.tobytes() for m in moments.values())])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    "edges", [[0, 4096, 8192, 12288, SIZE], [0, 8192, SIZE], [0, 4096, SIZE], [0, 0, SIZE]]
)
@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_slices_with_shared_norms_give_the_bits_of_the_whole(name: str, edges: list[int]) -> None:
    """As ranks of a node do: each its slice, and norms from everybody's partials in block order."""
    optimizer = make_optimizer(name)
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    moments = {key: np.zeros(SIZE, np.float32) for key in optimizer.moment_names}
    scalars: dict[str, float] = optimizer.initial_scalars()
    for t, g in enumerate(gradients(10)):
        norms: list[float] = []

        def record(x: Float32s, norms: list[float] = norms) -> float:
            norms.append(euclidean_norm(x))
            return norms[-1]

        whole, new_moments, new_scalars = step(
            optimizer, g, moments, scalars, learning_rate(t), record
        )

        partials: list[list[Float64s]] = [[] for _ in norms]
        for part in slices:
            asked = iter(range(len(norms)))

            def shared(
                x: Float32s,
                asked: Iterator[int] = asked,
                norms: list[float] = norms,
                partials: list[list[Float64s]] = partials,
            ) -> float:
                number = next(asked)
                partials[number].append(block_sums_of_squares(x))
                return norms[number]

            own = {key: moment[part] for key, moment in moments.items()}
            increment, own, own_scalars = step(
                optimizer, g[part], own, scalars, learning_rate(t), shared
            )
            assert increment.tobytes() == whole[part].tobytes()
            assert all(own[key].tobytes() == new_moments[key][part].tobytes() for key in own)
            assert own_scalars == new_scalars
        for norm, of_slices in zip(norms, partials, strict=True):
            assert math.sqrt(in_order(np.concatenate(of_slices))) == norm
        moments, scalars = new_moments, new_scalars


def test_adam_keeps_its_powers_as_numbers() -> None:
    """Multiplied on, not recomputed from t, so that a resumed run goes on with the same bits."""
    optimizer = make_optimizer("adam", beta1=0.9, beta2=0.99)
    moments = {key: np.zeros(10, np.float32) for key in optimizer.moment_names}
    scalars: dict[str, float] = optimizer.initial_scalars()
    assert scalars == {"beta1_power": 1.0, "beta2_power": 1.0}
    power1 = power2 = 1.0
    for _ in range(30):
        _, moments, scalars = step(
            optimizer, np.ones(10, np.float32), moments, scalars, 0.1, euclidean_norm
        )
        power1, power2 = power1 * 0.9, power2 * 0.99
        assert scalars == {"beta1_power": power1, "beta2_power": power2}


def test_adams_first_step_has_the_length_of_the_learning_rate_in_every_coordinate() -> None:
    """Whatever the gradient's size, thanks to the bias correction."""
    optimizer = make_optimizer("adam")
    g = np.array([1e-3, -5.0, 1e4], np.float32)
    zero = {key: np.zeros(3, np.float32) for key in optimizer.moment_names}
    increment, _, _ = step(optimizer, g, zero, optimizer.initial_scalars(), 0.01, euclidean_norm)
    assert increment == pytest.approx([0.01, -0.01, 0.01], rel=1e-4)


def test_clipup_moves_by_the_learning_rate_first_and_never_faster_than_its_maximum() -> None:
    optimizer = make_optimizer("clipup")
    moments = {"velocity": np.zeros(SIZE, np.float32)}
    g = gradients(1)[0]
    speeds = []
    for _ in range(20):
        increment, moments, _ = step(optimizer, g, moments, {}, ALPHA, euclidean_norm)
        speeds.append(euclidean_norm(increment))
    assert speeds[0] == pytest.approx(ALPHA, rel=1e-6)
    assert speeds[1] == pytest.approx(1.9 * ALPHA, rel=1e-6)
    assert speeds[2:] == pytest.approx([2 * ALPHA] * 18, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1e-30, 1e15])
@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_very_small_and_very_large_gradients_stay_finite(name: str, scale: float) -> None:
    optimizer = make_optimizer(name)
    g = np.float32(scale) * normals(1, Purpose.INITIAL_H, 5_000)
    moments = {key: np.zeros(5_000, np.float32) for key in optimizer.moment_names}
    scalars: dict[str, float] = optimizer.initial_scalars()
    for _ in range(5):
        increment, moments, scalars = step(optimizer, g, moments, scalars, 0.1, euclidean_norm)
        assert np.isfinite(increment).all()
        assert all(np.isfinite(moment).all() for moment in moments.values())


def test_a_gradient_whose_square_is_infinite_in_float32_makes_adams_step_nan() -> None:
    """It ends the training with a message; steps of 0 would go on for ever."""
    g = np.array([1e22, 1.0, -1e22], np.float32)
    optimizer = make_optimizer("adam")
    moments = {key: np.zeros(3, np.float32) for key in optimizer.moment_names}
    with np.errstate(over="ignore"):
        increment, *_ = step(
            optimizer, g, moments, optimizer.initial_scalars(), 0.1, euclidean_norm
        )
    assert np.isnan(increment).tolist() == [True, False, True]


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
def test_a_gradient_that_is_not_finite_makes_no_finite_step(name: str) -> None:
    g = np.array([np.inf, 1.0, -np.inf], np.float32)
    optimizer = make_optimizer(name)
    moments = {key: np.zeros(3, np.float32) for key in optimizer.moment_names}
    with np.errstate(all="ignore"):
        increment, *_ = step(
            optimizer, g, moments, optimizer.initial_scalars(), 0.1, lambda v: math.nan
        )
    assert not np.isfinite(increment).all()


def test_an_unknown_optimizer_is_refused_with_the_names_of_the_known() -> None:
    known = ", ".join(sorted(OPTIMIZERS.names()))
    with pytest.raises(UsageError, match=f"known: {known}"):
        make_optimizer("rmsprop")
