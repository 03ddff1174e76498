"""What [policy] may hold, kind by kind."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from esd.config.fields import NOT_NEGATIVE, POSITIVE, setting

NORMALIZATIONS = ("max", "none", "l2")
ACTIVATIONS = ("tanh", "relu", "none")
OUTPUTS = ("tanh", "raw")
INITIAL_WEIGHTS = (
    "uniform",
    "normal",
    "uniform_wide",
    "xavier",
    "kaiming",
    "sparse",
    "ones",
    "zeros",
    "coevolved",
)
RULES = (
    "A",
    "AD",
    "AD_lr",
    "ABC",
    "ABC_lr",
    "ABCD",
    "ABCD_lr",
    "ABCD_lr_D_out",
    "ABCD_lr_D_in_and_out",
)

# float32 makes 0 or infinity of others
RATE: dict[str, Any] = {"expected": "1e-30 to 1e30", "check": lambda v: 1e-30 <= v <= 1e30}


@dataclass(frozen=True)
class HebbianConfig:
    """[policy] kind = "hebbian": a multilayer perceptron whose weights a learning rule rewires at every step."""

    rule: str = setting("ABCD_lr", "the learning rule", choices=RULES)
    rate: float = setting(
        1.0,
        "factor on every change of a weight; with coefficients of N(0, 1) and weights of at most 1, a rate of 1 "
        "overwrites a network within a few steps, a small one lets it integrate over many",
        **RATE,
    )
    convolutions: bool = setting(
        False,
        "two evolved convolutions in front, for square RGB observations, shrunk to 84×84 (Najarro & Risi 2020)",
    )
    hidden: tuple[int, ...] = setting(
        (128, 64),
        "sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )
    activation: str = setting("tanh", "of the hidden layers", choices=ACTIVATIONS)
    output: str = setting(
        "tanh",
        "what the rule sees of the last layer where actions are bounded: tanh, the action itself, or raw, before its "
        "tanh (as in the paper's CarRacing); otherwise it is always raw",
        choices=OUTPUTS,
    )
    initial_weights: str = setting(
        "uniform",
        "of every episode: uniform ±0.1, normal(0, 0.024), uniform_wide ±1, xavier, kaiming, sparse, ones, zeros, "
        "or coevolved (one evolved set)",
        choices=INITIAL_WEIGHTS,
    )
    normalization: str = setting(
        "max",
        "each layer is divided by its max |w|, its l2 norm, or not at all, after every update",
        choices=NORMALIZATIONS,
    )
    freeze_after: int = setting(
        0,
        "the updates that follow the first so many steps of an episode are made, later ones not; 0: all are",
        expected="0 to 2⁶³ − 1",
        check=lambda v: 0 <= v < 2**63,
    )
    coefficients: str = setting(
        "normal", "h_0: normal (N(0, 1)) or uniform (±1)", choices=("normal", "uniform")
    )
    order: str = setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class StaticConfig:
    """[policy] kind = "static": the same network, its weights evolved directly."""

    convolutions: bool = setting(
        False,
        "two evolved convolutions in front, for square RGB observations, shrunk to 84×84 (Najarro & Risi 2020)",
    )
    hidden: tuple[int, ...] = setting(
        (128, 64),
        "sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )
    activation: str = setting("tanh", "of the hidden layers", choices=ACTIVATIONS)
    initial_weights: str = setting(
        "xavier", "h_0, drawn once per run", choices=INITIAL_WEIGHTS[:-1]
    )
    order: str = setting("C", "how arrays are flattened into h", choices=("C", "F"))


HEADS = ("linear", *RULES)
CLOCK = (4, 8, 16, 32, 64, 128, 256)


def _periods(value: tuple[int, ...]) -> bool:
    return all(2 <= period <= 2**20 for period in value)


PERIODS: dict[str, Any] = {"expected": "whole numbers from 2 to 2²⁰", "check": _periods}


@dataclass(frozen=True)
class ReformerConfig:
    """[policy] kind = "reformer": LSH attention over the whole episode, one step at a time, in reversible blocks."""

    width: int = setting(16, "of both residual streams", **POSITIVE)
    blocks: int = setting(1, "reversible blocks, one behind the other", **POSITIVE)
    heads: int = setting(1, "of attention in each block", **POSITIVE)
    head_size: int = setting(16, "of a head's queries, keys and values", **POSITIVE)
    units: int = setting(
        0, "hidden units of a block's feed-forward part; 0: it has none", **NOT_NEGATIVE
    )
    clock: tuple[int, ...] = setting(
        CLOCK,
        "periods, in steps: sine and cosine of the time since the episode began, beside the observation",
        **PERIODS,
    )
    attention: str = setting(
        "lsh",
        "lsh: to what shares a bucket with the query in any round; full: to everything remembered",
        choices=("lsh", "full"),
    )
    hashes: int = setting(
        4, "rounds of hashing", expected="1 to 1024", check=lambda v: 1 <= v <= 1024
    )
    buckets: int = setting(
        64,
        "of a round; even, and divisible by 4 above 64",
        expected="an even number, above 64 a multiple of 4, at most 2²⁰",
        check=lambda v: 2 <= v <= 2**20 and v % (2 if v <= 64 else 4) == 0,
    )
    cap: int = setting(64, "newest keys of a bucket that a query finds", **POSITIVE)
    capacity: int = setting(
        16384,
        "newest keys that are remembered at all",
        expected="1 to 2²⁶",
        check=lambda v: 1 <= v <= 2**26,
    )
    keys: str = setting(
        "own",
        "own: keys have a projection of their own; shared: a key is its query, of length 1 (as in the paper)",
        choices=("own", "shared"),
    )
    gate: bool = setting(
        False, "an evolved gate decides which steps are written into memory; otherwise all are"
    )
    normalize: bool = setting(False, "what a block reads is divided by the root of its mean square")
    head: str = setting(
        "linear",
        "from the streams to the outputs: linear, or a learning rule, which rewires a random layer as it acts",
        choices=HEADS,
    )
    head_rate: float = setting(0.1, "rate of the head's learning rule", **RATE)
    hash_seed: int = setting(
        0,
        "what the rotations are drawn from",
        expected="0 to 2⁶³ − 1",
        check=lambda v: 0 <= v < 2**63,
    )
    order: str = setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class GruConfig:
    """[policy] kind = "gru": a gated recurrent unit and a linear head, as a baseline with a memory of fixed size."""

    units: int = setting(16, "numbers that it remembers", **POSITIVE)
    clock: tuple[int, ...] = setting(
        (),
        "periods, in steps: sine and cosine of the time since the episode began, beside the observation",
        **PERIODS,
    )
    head: str = setting(
        "linear",
        "from what it remembers to the outputs: linear, or a learning rule, which rewires a random layer as it acts",
        choices=HEADS,
    )
    head_rate: float = setting(0.1, "rate of the head's learning rule", **RATE)
    order: str = setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class ModuleConfig:
    """[policy] kind = "module:Class": a user's policy, or a torch.nn.Module (the slower path)."""

    kwargs: dict[str, Any] = setting({}, "keyword arguments of the class")


PolicySettings = HebbianConfig | StaticConfig | ReformerConfig | GruConfig | ModuleConfig
POLICY_KINDS: dict[str, type[PolicySettings]] = {
    "hebbian": HebbianConfig,
    "static": StaticConfig,
    "reformer": ReformerConfig,
    "gru": GruConfig,
}


@dataclass(frozen=True)
class PolicyConfig:
    """[policy]: ``kind`` and, flat beside it, the settings of that kind."""

    kind: str = "hebbian"
    settings: PolicySettings = dataclasses.field(default_factory=HebbianConfig)
