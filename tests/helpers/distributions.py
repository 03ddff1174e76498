"""What the tests of algorithms with learned deviations share: the same run by esd and by a plain version."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from esd.evolution.algorithm import Algorithm, EvolutionState
from esd.evolution.noise import Purpose, normals
from esd.kernels.reduce import REDUCTION_BLOCK
from tests.helpers.oracles import philox as oracle

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

SEED = 0xABCDEF0123456789


def initial_h(size: int) -> Float32s:
    return normals(SEED, Purpose.INITIAL_H, size)


def samples(kind: str, population: int, generation: int, size: int) -> Float64s:
    """Z of every member by the oracle of the noise, float64 [population, size]: +ε and −ε by turns."""
    epsilons = [
        oracle.epsilon(kind, SEED, pair, generation, 0, size).astype(np.float64)
        for pair in range(population // 2)
    ]
    return np.array([sign * e for e in epsilons for sign in (1.0, -1.0)])


def asked(algorithm: Algorithm, state: EvolutionState) -> Float32s:
    """All members, float32 [population, |h|]."""
    members = np.empty((algorithm.population, state.h.size), np.float32)
    for member, out in enumerate(members):
        algorithm.ask(state, member, out)
    return members


def distances(target: Float64s) -> Callable[[Float64s], Float64s]:
    """Minus an ill-conditioned quadratic around a target."""
    weights = 10.0 ** np.linspace(0.0, 2.0, target.size)
    return lambda x: -((weights * (x - target)) ** 2).sum(axis=1)


def told_in_slices(
    algorithm: Algorithm, state: EvolutionState, fitness: Float64s, cuts: list[int]
) -> EvolutionState:
    """An update made slice by slice, cut at these blocks, as by ranks that know all sums of the whole update.

    Every slice's partials must be the whole's, and then it gets the whole's sums.
    """
    size = state.h.size
    blocks = -(-size // REDUCTION_BLOCK)
    whole: list[Float64s] = []

    def record(partials: Float64s) -> Float64s:
        whole.append(partials.copy())
        return partials

    after = {name: np.full_like(vector, np.nan) for name, vector in state.named().items()}
    algorithm.tell_slice(state, fitness, slice(0, size), after, record)
    sliced = {name: np.full_like(vector, np.nan) for name, vector in state.named().items()}
    scalars: dict[str, float] = {}
    for first, last in zip([0, *cuts], [*cuts, blocks], strict=True):
        asked_for: Iterator[Float64s] = iter(whole)

        def look_up(
            partials: Float64s,
            asked_for: Iterator[Float64s] = asked_for,
            own: slice = slice(first, last),
        ) -> Float64s:
            expected = next(asked_for)
            np.testing.assert_array_equal(partials, expected[:, own])
            return expected

        part = slice(first * REDUCTION_BLOCK, min(last * REDUCTION_BLOCK, size))
        scalars = algorithm.tell_slice(state, fitness, part, sliced, look_up)
        assert next(asked_for, None) is None
    return EvolutionState(state.generation + 1, sliced.pop("h"), sliced, scalars)


def assert_same_bits(a: EvolutionState, b: EvolutionState) -> None:
    assert a.scalars == b.scalars
    assert set(a.named()) == set(b.named())
    for name, vector in a.named().items():
        assert vector.tobytes() == b.named()[name].tobytes(), name


def assert_slices_are_the_whole(algorithm: Algorithm, size: int, generations: int = 3) -> None:
    """However h is cut at blocks; also into slices of nothing."""
    state = algorithm.start(initial_h(size))
    blocks = -(-size // REDUCTION_BLOCK)
    for generation in range(generations):
        fitness = np.random.default_rng(generation).normal(size=algorithm.population)
        expected = algorithm.tell(state, fitness)
        for cuts in ([], [1], [0, 1, 1], list(range(1, blocks))):
            cuts = [min(cut, blocks) for cut in cuts]
            assert_same_bits(told_in_slices(algorithm, state, fitness, cuts), expected)
        state = expected


def assert_members_are_the_same_piece_by_piece(algorithm: Algorithm, state: EvolutionState) -> None:
    for member, whole in enumerate(asked(algorithm, state)):
        pieces = [piece.copy() for _, piece in algorithm.ask_pieces(state, member)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()
