"""A policy whose memory is its whole episode: LSH attention in reversible blocks, one step at a time.

Kitaev, Kaiser & Levskaya 2020, "Reformer: The Efficient Transformer" (arXiv 2001.04451). A step costs what its own
buckets hold, however long the episode has become.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.attention.hashing import Hash, angular, one_bucket
from esd.attention.stream import Limits, allocate, scratch
from esd.config.fields import NOT_NEGATIVE, POSITIVE, SECOND_VERSION, setting
from esd.kernels import reformer
from esd.kernels.lanes import aligned_zeros
from esd.kernels.orthonormal import orthonormalize
from esd.policies.base import Interface
from esd.policies.hebbian import RATE
from esd.policies.kind import PolicyKind
from esd.policies.perceptron import array_order
from esd.policies.recurrent import HEADS, PERIODS, RememberingPolicy, clock_face

WITH_BIAS = ("query", "key", "gate", "feed1", "feed2")

Float32s = npt.NDArray[np.float32]

CLOCK = (4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class ReformerSettings:
    """[policy] kind = "reformer": LSH attention over the whole episode, one step at a time, in reversible blocks."""

    width: int = setting(16, "Width of both residual streams", **POSITIVE)
    blocks: int = setting(1, "Number of reversible blocks", **POSITIVE)
    heads: int = setting(1, "Attention heads per block", **POSITIVE)
    head_size: int = setting(16, "Size of a head's queries, keys and values", **POSITIVE)
    units: int = setting(
        0, "Hidden units of a block's feed-forward layer. 0: no feed-forward layer", **NOT_NEGATIVE
    )
    clock: tuple[int, ...] = setting(
        CLOCK,
        "Periods in steps: adds sine and cosine of the time since the start of the episode to the "
        "observation",
        **PERIODS,
    )
    attention: str = setting(
        "lsh",
        "Attention: lsh (to keys that share a bucket with the query in any round) or full (to all keys in "
        "memory)",
        choices=("lsh", "full"),
    )
    hashes: int = setting(
        4, "Rounds of hashing", expected="1 to 1024", check=lambda v: 1 <= v <= 1024
    )
    buckets: int = setting(
        64,
        "Buckets per round",
        expected="an even number, above 64 a multiple of 4, at most 2²⁰",
        check=lambda v: 2 <= v <= 2**20 and v % (2 if v <= 64 else 4) == 0,
    )
    cap: int = setting(64, "Number of newest keys of a bucket that a query attends to", **POSITIVE)
    capacity: int = setting(
        16384,
        "Number of newest keys that are kept in memory",
        expected="1 to 2²⁶",
        check=lambda v: 1 <= v <= 2**26,
    )
    keys: str = setting(
        "own",
        "own: keys have their own projection. shared: a key is its query, normalized to length 1 (as in the"
        " paper)",
        choices=("own", "shared"),
    )
    gate: bool = setting(
        False, "Let an evolved gate decide which steps are written to memory; otherwise all are"
    )
    gate_bias: float = setting(
        0.0,
        "Initial bias of the gate, if there is one. Above 0, a new network remembers almost every step",
        since=SECOND_VERSION,
    )
    sharpness: float = setting(
        1.0,
        "Factor on the attention logits, in addition to the evolved factor. Use a value above 1 if the memory has "
        "many more keys than in training, because their small weights add up",
        since=SECOND_VERSION,
        **POSITIVE,
    )
    normalize: bool = setting(False, "Divide the input of each block by its root mean square")
    head: str = setting(
        "linear",
        "Output layer: linear, or a learning rule that rewires a random layer during the episode",
        choices=HEADS,
    )
    head_rate: float = setting(0.1, "Rate of the output layer's learning rule", **RATE)
    hash_seed: int = setting(
        0,
        "Seed of the random rotations",
        expected="0 to 2⁶³ − 1",
        check=lambda v: 0 <= v < 2**63,
    )
    order: str = array_order()


class ReformerPolicy(RememberingPolicy):
    """Reversible blocks of LSH attention, and a head that reads both of their streams.

    h holds ``embed`` [features, width]; of each block, as far as it has them, ``block0.query`` and ``.key`` [width + 1,
    heads · head size], ``.value`` [width, heads · head size], ``.sharpness`` [1, heads] (log of a factor on logits),
    ``.mix`` [heads · head size, width], ``.gate`` [width + 1, 1], ``.feed1`` [width + 1, units] and ``.feed2`` [units +
    1, width]; then the head's. Features are the observation and the clock; a row more is a bias.
    """

    def __init__(self, interface: Interface, settings: ReformerSettings) -> None:
        """Build for one environment."""
        self._settings = settings
        shared = settings.keys == "shared"
        features = interface.observation_size + 2 * len(settings.clock)
        width, all_heads = settings.width, settings.heads * settings.head_size
        shapes = {"embed": (features, width)}
        for block in range(settings.blocks):
            of_block = {
                "query": (width + 1, all_heads),
                **({} if shared else {"key": (width + 1, all_heads)}),
                "value": (width, all_heads),
                "sharpness": (1, settings.heads),
                "mix": (all_heads, width),
                **({"gate": (width + 1, 1)} if settings.gate else {}),
            }
            if settings.units:
                of_block |= {
                    "feed1": (width + 1, settings.units),
                    "feed2": (settings.units + 1, width),
                }
            shapes |= {f"block{block}.{name}": shape for name, shape in of_block.items()}
        super().__init__(interface, settings, shapes, 2 * width + 1)
        hashes = [_hash(settings, layer) for layer in range(settings.blocks * settings.heads)]
        cap = settings.cap if settings.attention == "lsh" else settings.capacity
        limits = Limits(cap, settings.capacity)
        numbers = np.zeros(1, reformer.SETTINGS)
        numbers["seen"], numbers["features"] = interface.observation_size, features
        numbers["width"], numbers["blocks"] = width, settings.blocks
        numbers["heads"] = settings.heads
        numbers["head_size"], numbers["units"] = settings.head_size, settings.units
        numbers["shared"], numbers["gated"] = shared, settings.gate
        numbers["normalized"] = settings.normalize
        size = reformer.scratch_size(features, width, all_heads, settings.head_size, settings.units)
        self._memory: reformer.Reformer = reformer.Reformer(
            numbers,
            self._matrices.flat,
            clock_face(settings.clock),
            aligned_zeros(size),
            allocate(hashes, settings.head_size, limits),
            scratch(hashes[0], limits),
        )

    def initial_parameters(self, seed: int) -> Float32s:
        """Matrices that keep angles, biases of 0 (but the gate's); queries are like keys, so what is alike is recalled.

        Normal numbers would stretch some directions many times as much as others, and keys that differ in the others
        would share their buckets. The logit of a vector of length 1 and its like is √(head size) at first with shared
        keys, 1 with keys of their own, if there is one head: several divide the vector. The head's as it has it.
        """
        h = super().initial_parameters(seed)
        arrays = self._own.unpack(h[: self._own.size])
        for name, array in arrays.items():
            block, _, part = name.partition(".")
            rows = len(array) - (part in WITH_BIAS)
            if part == "key":
                array[...] = arrays[f"{block}.query"]
            elif part == "sharpness":
                array[...] = 0.5 * math.log(self._settings.head_size)
            else:
                array[:rows] = _perpendicular(array[:rows])
                array[rows:] = self._settings.gate_bias if part == "gate" else 0.0
        return h

    def load(self, parameters: Float32s) -> None:
        """Take the matrices, and make attention as sharp as the settings want it."""
        super().load(parameters)
        if self._settings.sharpness != 1.0:
            for block in range(self._settings.blocks):
                self._matrices.add(f"block{block}.sharpness", math.log(self._settings.sharpness))

    def reset(self, seed: int) -> None:
        """Begin an episode with an empty memory."""
        super().reset(seed)
        reformer.begin(self._memory)


def _perpendicular(normal: Float32s) -> Float32s:
    """Random rows, or columns if there are fewer of them, that are perpendicular and of length 1 [rows, columns].

    Saxe, McClelland & Ganguli 2013 (arXiv 1312.6120).
    """
    wide = len(normal) <= normal.shape[1]
    # rows in one piece, or the kernel takes many times as long
    directions = np.array(normal if wide else normal.T, np.float64, order="C")
    orthonormalize(directions, passes=2)
    return (directions if wide else directions.T).astype(np.float32)


def _hash(settings: ReformerSettings, layer: int) -> Hash:
    """The hash of a head; heads and blocks share nothing."""
    if settings.attention == "full":
        return one_bucket(settings.head_size)
    return angular(settings.hash_seed, settings.head_size, settings.hashes, settings.buckets, layer)


REFORMER = PolicyKind(ReformerSettings, ReformerPolicy)
