"""Counter-based noise: any slice of any perturbation, on demand, on any rank (law 2).

Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3") gave the idea: randomness is a function of a
counter and a key, not of how often it was drawn before. Here the key is the run's seed, and the counter names the
coordinate, the mirrored pair, the generation and the purpose. Nothing is stored, and nothing is sent.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.evolution.halves import Halves
from esd.evolution.vectors import pieces
from esd.kernels import distribution, philox
from esd.kernels.reduce import REDUCTION_BLOCK

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]

NOISE_KINDS = {
    "gaussian": philox.GAUSSIAN,
    "rademacher": philox.RADEMACHER,
    "binomial": philox.BINOMIAL,
}


_ONE = np.ones(1, np.float32)


def adapting_noise(kind: str) -> Iterator[str]:
    """What is wrong with a kind of noise for an algorithm that learns σ from ε²; nothing but for Rademacher noise."""
    if kind == "rademacher":
        yield (
            'es.noise = "rademacher": every ε² is 1, so sigma can\'t be adapted; use gaussian or binomial'
        )


class Purpose(enum.IntEnum):
    """What a stream is for: the counter's fourth word, so that no two uses ever share a number."""

    PERTURBATION = 0
    INITIAL_H = 1
    INITIAL_WEIGHTS = 2
    TRAIN_EPISODE = 3
    SELECT_EPISODE = 4
    TEST_EPISODE = 5
    HASH = 6
    CANARY = 7
    RANDOM_RULES = 8
    LOW_RANK = 9  # factors of perturbations
    WEIGHT_SEEDS = 10  # of initial weights that several episodes share
    SHARED_RULES = 11  # which synapse follows which rule
    ALGORITHM = 16  # what an algorithm starts from, such as a first direction


@functools.lru_cache
def key_words(seed: int) -> tuple[np.uint32, np.uint32]:
    """Split a 64-bit seed into Philox's two key words, low word first."""
    return np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF)


def words(seed: int, purpose: Purpose, *coordinates: int) -> Uint32s:
    """Four random uint32 words named by a purpose and up to three 32-bit coordinates; shape [4]."""
    return consecutive_words(seed, purpose, 1, *coordinates)[:, 0]


def consecutive_words(seed: int, purpose: Purpose, count: int, *coordinates: int) -> Uint32s:
    """The words of these coordinates and of the next ``count`` − 1 first ones; shape [4, count]."""
    c = [*coordinates, 0, 0, 0][:3]
    key0, key1 = key_words(seed)
    out = np.empty((4, count + count % 2), np.uint32)  # counters come in twos
    philox.philox_words(
        np.uint64(c[0]), np.uint32(c[1]), np.uint32(c[2]), np.uint32(purpose), key0, key1, out
    )
    return out[:, :count]


def words_of_many(
    seed: int, purpose: Purpose, count: int, second: Sequence[int], third: int
) -> Uint32s:
    """``consecutive_words`` from the first coordinate 0 on, for many second ones; uint32 [second, 4, count]."""
    key0, key1 = key_words(seed)
    out = np.empty((len(second), 4, count + count % 2), np.uint32)
    philox.words_of_many(
        np.array(second, np.uint32), np.uint32(third), np.uint32(purpose), key0, key1, out
    )
    return out[..., :count]


def normals(seed: int, purpose: Purpose, count: int, first: int = 0, second: int = 0) -> Float32s:
    """Standard normals of the stream (purpose, first, second), float32 [count]; first and second are 32-bit."""
    return _stream(philox.GAUSSIAN, seed, purpose, count, first, second)


def uniforms(seed: int, purpose: Purpose, count: int, first: int = 0, second: int = 0) -> Float32s:
    """Uniforms in [−1, 1] of the stream (purpose, first, second), float32 [count]; first and second are 32-bit."""
    return _stream(philox.UNIFORM, seed, purpose, count, first, second)


def normals_of_seeds(seeds: Uint64s, purpose: Purpose, count: int) -> Float32s:
    """``normals`` of every seed, float32 [seeds, count]."""
    return _streams(philox.GAUSSIAN, seeds, purpose, count)


def uniforms_of_seeds(seeds: Uint64s, purpose: Purpose, count: int) -> Float32s:
    """``uniforms`` of every seed, float32 [seeds, count]."""
    return _streams(philox.UNIFORM, seeds, purpose, count)


def _streams(kind: int, seeds: Uint64s, purpose: Purpose, count: int) -> Float32s:
    out = np.empty((seeds.size, count), np.float32)
    philox.draw_streams(kind, seeds, np.uint32(purpose), out)
    return out


def _stream(
    kind: int, seed: int, purpose: Purpose, count: int, first: int, second: int
) -> Float32s:
    coordinates = np.uint32(first), np.uint32(second), np.uint32(purpose)
    return _add(kind, 0, _ONE, *coordinates, seed, np.zeros(count, np.float32))


def _add(
    kind: int,
    start: int,
    weights: Float32s,
    pair: np.uint32,
    generation: np.uint32,
    purpose: np.uint32,
    seed: int,
    out: Float32s,
    base: Float32s | None = None,
) -> Float32s:
    """Call the kernel with the types that it was compiled for; without ``base`` it adds to ``out``."""
    philox.add(
        kind,
        start,
        weights,
        pair,
        generation,
        purpose,
        *key_words(seed),
        out if base is None else base,
        out,
    )
    return out


@dataclass(frozen=True)
class Noise:
    """The perturbations Δh_i = ±σ ε of one run.

    Members 2p and 2p + 1 are the mirrored pair p: they share one ε and carry the signs + and −.

    Args:
        kind: ``gaussian`` (N(0, 1)), ``rademacher`` (±1) or ``binomial`` ((ones among 16 bits − 8)/2: multiples
            of ½ with variance 1); ``low_rank.LowRankNoise`` is another one.
        seed: the run's seed, 64 bits.

    Raises:
        TypeError: if the seed is not a number.
    """

    kind: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse what an algorithm of the user's own may pass that is built as it was before."""
        if isinstance(self.seed, Noise):
            raise TypeError(
                "Noise(kind, seed): seed is a Noise; an algorithm is built from (settings, noise, population, "
                "reduction), so use that noise unchanged"
            )

    def epsilon(self, pair: int, generation: int, start: int, stop: int) -> Float32s:
        """ε of a mirrored pair, coordinates start ≤ c < stop; float32 [stop − start], standard deviation 1."""
        return self._add(_ONE, pair, generation, start, np.zeros(stop - start, np.float32))

    def perturb(
        self,
        h: Float32s,
        sigma: float | Float32s,
        member: int,
        generation: int,
        out: Float32s,
        start: int = 0,
    ) -> None:
        """Write h + Δh_member into ``out``; both hold the coordinates from ``start`` on, float32 [n].

        ``sigma`` is one number or one for each of these coordinates; its product with ε is rounded before the sum.
        """
        if not isinstance(sigma, float):
            out[...] = 0.0
            self._add(_ONE, member // 2, generation, start, out)
            out *= sigma
            (np.add if member % 2 == 0 else np.subtract)(h, out, out=out)
            return
        scale = np.array([sigma if member % 2 == 0 else -sigma], np.float32)
        self._add(scale, member // 2, generation, start, out, h)

    def perturb_many(
        self, h: Float32s, sigma: float, members: Int64s, generation: int, out: Float32s
    ) -> None:
        """``perturb`` of several members at once.

        Args:
            h: all of its coordinates, float32 [n].
            sigma: of all of them.
            members: int64 [k]; −1 for h itself.
            generation: whose perturbations are made.
            out: float32 [k, n], overwritten.
        """
        stream = np.uint32(generation), np.uint32(Purpose.PERTURBATION), *key_words(self.seed)
        philox.perturb_many(NOISE_KINDS[self.kind], np.float32(sigma), members, *stream, h, out)

    def accumulate(
        self,
        weights: Float32s,
        generation: int,
        out: Float32s,
        start: int = 0,
        halves: Halves | None = None,
    ) -> None:
        """Write Σ_p weights[p]·ε_p into ``out``, coordinates from ``start`` on; float32, summed in pair order.

        Args:
            weights: one per mirrored pair, float32 [population / 2].
            generation: whose perturbations are rebuilt.
            out: float32 [n], overwritten.
            start: the coordinate of out[0].
            halves: sees the sums over the first half of the pairs and over all; that changes no bit of ``out``.
        """
        out[...] = 0.0
        if halves is None:
            self._add(weights, 0, generation, start, out)
            return
        half = weights.size // 2
        for piece in pieces(out.size):
            here, at = out[piece], start + piece.start
            self._add(weights[:half], 0, generation, at, here)
            first = here.copy()
            self._add(weights[half:], half, generation, at, here)
            halves.see(piece.start, first, here)

    def moments(
        self,
        weights: Float32s,
        square_weights: Float32s,
        generation: int,
        sums: Float32s,
        squares: Float32s,
        start: int = 0,
    ) -> None:
        """Σ_p weights[l, p]·ε_p and Σ_p square_weights[p]·(ε_p² − 1) from one rebuild, float32, in pair order.

        Args:
            weights: float32 [l, population / 2].
            square_weights: float32 [population / 2].
            generation: whose perturbations are rebuilt.
            sums: float32 [l, n], overwritten.
            squares: float32 [n], overwritten.
            start: the coordinate of squares[0].
        """
        sums[...] = 0.0
        squares[...] = 0.0
        stream = np.uint32(generation), np.uint32(Purpose.PERTURBATION), *key_words(self.seed)
        kind = NOISE_KINDS[self.kind]
        distribution.add_moments(kind, start, weights, square_weights, *stream, sums, squares)

    def correlate(
        self,
        weights: Float32s,
        first_pair: int,
        generation: int,
        v: Float32s,
        out: Float32s,
        start: int = 0,
    ) -> Float64s:
        """Add Σ_p weights[p]·ε_p to ``out``, and return ε_p·v and ‖ε_p‖² of every block of 4,096 coordinates.

        Args:
            weights: float32 [pairs].
            first_pair: the pair of weights[0].
            generation: whose perturbations are rebuilt.
            v: float32 [n].
            out: float32 [n].
            start: the coordinate of v[0] and out[0], a multiple of 4,096.

        Returns:
            float64 [2, pairs, ⌈n/4096⌉].
        """
        blocks = -(-v.size // REDUCTION_BLOCK)
        partials = np.empty((2, weights.size, blocks))
        stream = np.uint32(generation), np.uint32(Purpose.PERTURBATION), *key_words(self.seed)
        kind, pair = NOISE_KINDS[self.kind], np.uint32(first_pair)
        distribution.add_and_correlate(kind, start, weights, pair, *stream, v, out, partials)
        return partials

    def _add(
        self,
        weights: Float32s,
        first_pair: int,
        generation: int,
        start: int,
        out: Float32s,
        base: Float32s | None = None,
    ) -> Float32s:
        stream = np.uint32(first_pair), np.uint32(generation), np.uint32(Purpose.PERTURBATION)
        return _add(NOISE_KINDS[self.kind], start, weights, *stream, self.seed, out, base)
