"""What a run is: frozen dataclasses; every field has a type, a default, a check and a text.

``config_tables`` reads and writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
SHAPING_NAMES = ("centered_rank", "centered_rank_unit", "standardize", "raw")
OPTIMIZER_NAMES = ("sgd", "momentum", "adam", "clipup")
NOISE_NAMES = ("gaussian", "rademacher", "binomial")
COMMON_RANDOM_NUMBERS = ("none", "pair", "generation")
REBUILD = ("auto", "always", "never")
REDUCTION_NAMES = ("mean", "min", "mean_of_ranks")
DEVICES = ("cpu", "cuda", "auto")
DEFAULT_EXPERIMENT = "cartpole"


def _setting(
    default: Any,
    text: str,
    *,
    expected: str = "",
    check: Callable[[Any], bool] | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A field with its documentation and its check; ``expected`` says in words what the check asks for."""
    if choices is not None:
        check, expected = (lambda value: value in choices), "one of " + ", ".join(choices)
    metadata = {"text": text, "expected": expected, "check": check}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _share(value: float) -> bool:
    return 0 < value <= 1


def _below_one(value: float) -> bool:
    return 0 <= value < 1


POSITIVE: dict[str, Any] = {"expected": "more than 0", "check": _positive}
NOT_NEGATIVE: dict[str, Any] = {"expected": "0 or more", "check": _not_negative}
SHARE: dict[str, Any] = {"expected": "more than 0 and at most 1", "check": _share}
BELOW_ONE: dict[str, Any] = {"expected": "0 or more and below 1", "check": _below_one}


@dataclass(frozen=True)
class Wrapper:
    """A Gymnasium wrapper around the environment, the first listed innermost."""

    id: str = _setting("", "module:Class", expected="module:Class", check=lambda v: ":" in v)
    kwargs: dict[str, Any] = _setting({}, "keyword arguments of the wrapper")


@dataclass(frozen=True)
class Variant:
    """One of the bodies (or worlds) that a member is evaluated on: [env] with some of it changed."""

    name: str = _setting("", "what it is called in every result", expected="a name", check=bool)
    id: str = _setting("", "another Gymnasium id; empty: env.id")
    kwargs: dict[str, Any] = _setting({}, "over env.kwargs")
    wrappers: tuple[Wrapper, ...] = _setting((), "around those of env.wrappers")
    unseen: bool = _setting(False, "left out of training: only esd eval opens it")


@dataclass(frozen=True)
class EnvironmentConfig:
    """[env]: where members live, and what one evaluation of a member is."""

    id: str = _setting(
        "CartPole-v1",
        "a Gymnasium id, or module:Env-v0 whose module registers it",
        expected="a Gymnasium id",
        check=bool,
    )
    kwargs: dict[str, Any] = _setting({}, "keyword arguments of gymnasium.make")
    wrappers: tuple[Wrapper, ...] = _setting(
        (), 'wrappers, innermost first: "module:Class" or {id = "module:Class", kwargs = {…}}'
    )
    variants: tuple[Variant, ...] = _setting(
        (),
        "bodies that each member is evaluated on, as [[env.variants]] tables: name, kwargs, wrappers, id, unseen",
    )
    episodes_per_member: int = _setting(
        1,
        "episodes a member is evaluated on, on every variant; its return there is their mean",
        **POSITIVE,
    )
    max_steps: int = _setting(
        0,
        "stop an episode after so many steps; 0: only the environment's own limit",
        **NOT_NEGATIVE,
    )
    stop_after_negative: int = _setting(
        0, "stop an episode at the n-th consecutive negative reward; 0: never", **NOT_NEGATIVE
    )
    normalize_observations: bool = _setting(
        False, "scale observations by the mean and deviation seen so far in the run"
    )
    rebuild: str = _setting(
        "auto",
        "make the environment anew for every episode, because it leaks through reset(); auto: if it keeps a Box2D "
        "world, as BipedalWalker and CarRacing do",
        choices=REBUILD,
    )

    @property
    def trained(self) -> tuple[Variant, ...]:
        """The variants that training uses; one without a name or a change if none are given."""
        return tuple(v for v in self.variants if not v.unseen) or (Variant(),)

    def of_variant(self, variant: Variant) -> EnvironmentConfig:
        """The environment of one variant, without variants."""
        return dataclasses.replace(
            self,
            id=variant.id or self.id,
            kwargs={**self.kwargs, **variant.kwargs},
            wrappers=(*self.wrappers, *variant.wrappers),
            variants=(),
        )


@dataclass(frozen=True)
class VariantsConfig:
    """[variants]: from a member's returns on the bodies in env.variants to its fitness."""

    reduce: str = _setting(
        "mean",
        "mean of its returns, min: the worst of them, or mean_of_ranks: of its centered ranks on each, for bodies "
        "whose returns are of different sizes",
        choices=REDUCTION_NAMES,
    )


@dataclass(frozen=True)
class HebbianConfig:
    """[policy] kind = "hebbian": a multilayer perceptron whose weights a learning rule rewires at every step."""

    rule: str = _setting("ABCD_lr", "the learning rule", choices=RULES)
    rate: float = _setting(
        1.0,
        "factor on every change of a weight; with coefficients of N(0, 1) and weights of at most 1, a rate of 1 "
        "overwrites a network within a few steps, a small one lets it integrate over many",
        expected="1e-30 to 1e30",  # float32 makes 0 or infinity of others
        check=lambda v: 1e-30 <= v <= 1e30,
    )
    convolutions: bool = _setting(
        False,
        "two evolved convolutions in front, for square RGB observations, shrunk to 84×84 (Najarro & Risi 2020)",
    )
    hidden: tuple[int, ...] = _setting(
        (128, 64),
        "sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )
    activation: str = _setting("tanh", "of the hidden layers", choices=ACTIVATIONS)
    output: str = _setting(
        "tanh",
        "what the rule sees of the last layer where actions are bounded: tanh, the action itself, or raw, before its "
        "tanh (as in the paper's CarRacing); otherwise it is always raw",
        choices=OUTPUTS,
    )
    initial_weights: str = _setting(
        "uniform",
        "of every episode: uniform ±0.1, normal(0, 0.024), uniform_wide ±1, xavier, kaiming, sparse, ones, zeros, "
        "or coevolved (one evolved set)",
        choices=INITIAL_WEIGHTS,
    )
    normalization: str = _setting(
        "max",
        "each layer is divided by its max |w|, its l2 norm, or not at all, after every update",
        choices=NORMALIZATIONS,
    )
    freeze_after: int = _setting(
        0,
        "the updates that follow the first so many steps of an episode are made, later ones not; 0: all are",
        expected="0 to 2⁶³ − 1",
        check=lambda v: 0 <= v < 2**63,
    )
    coefficients: str = _setting(
        "normal", "h_0: normal (N(0, 1)) or uniform (±1)", choices=("normal", "uniform")
    )
    order: str = _setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class StaticConfig:
    """[policy] kind = "static": the same network, its weights evolved directly."""

    convolutions: bool = _setting(
        False,
        "two evolved convolutions in front, for square RGB observations, shrunk to 84×84 (Najarro & Risi 2020)",
    )
    hidden: tuple[int, ...] = _setting(
        (128, 64),
        "sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )
    activation: str = _setting("tanh", "of the hidden layers", choices=ACTIVATIONS)
    initial_weights: str = _setting(
        "xavier", "h_0, drawn once per run", choices=INITIAL_WEIGHTS[:-1]
    )
    order: str = _setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class ModuleConfig:
    """[policy] kind = "module:Class": a user's policy, or a torch.nn.Module (the slower path)."""

    kwargs: dict[str, Any] = _setting({}, "keyword arguments of the class")


PolicySettings = HebbianConfig | StaticConfig | ModuleConfig
POLICY_KINDS: dict[str, type[PolicySettings]] = {"hebbian": HebbianConfig, "static": StaticConfig}


@dataclass(frozen=True)
class PolicyConfig:
    """[policy]: ``kind`` and, flat beside it, the settings of that kind."""

    kind: str = "hebbian"
    settings: PolicySettings = dataclasses.field(default_factory=HebbianConfig)


@dataclass(frozen=True)
class EvolutionConfig:
    """[es]: the evolution strategy."""

    sigma: float = _setting(0.1, "standard deviation of the perturbations", **POSITIVE)
    sigma_decay: float = _setting(1.0, "factor on sigma per generation", **SHARE)
    sigma_min: float = _setting(0.0, "floor of sigma", **NOT_NEGATIVE)
    learning_rate: float = _setting(0.2, "α in the update", **POSITIVE)
    learning_rate_decay: float = _setting(1.0, "factor on α per generation", **SHARE)
    learning_rate_min: float = _setting(0.0, "floor of α", **NOT_NEGATIVE)
    optimizer: str = _setting("sgd", "from gradient to step", choices=OPTIMIZER_NAMES)
    momentum: float = _setting(0.9, "of momentum and clipup", **BELOW_ONE)
    beta1: float = _setting(0.9, "of adam", **BELOW_ONE)
    beta2: float = _setting(0.999, "of adam", **BELOW_ONE)
    epsilon: float = _setting(1e-8, "of adam", **POSITIVE)
    max_speed: float = _setting(0.0, "of clipup; 0: twice the learning rate", **NOT_NEGATIVE)
    shaping: str = _setting("centered_rank", "from returns to weights", choices=SHAPING_NAMES)
    weight_decay: float = _setting(
        0.0, "h shrinks by α·weight_decay·h per generation", **NOT_NEGATIVE
    )
    fitness_penalty: float = _setting(
        0.0,
        "penalty·mean(h²) of a member is subtracted from its return before ranking",
        **NOT_NEGATIVE,
    )
    noise: str = _setting("gaussian", "distribution of the perturbations", choices=NOISE_NAMES)
    common_random_numbers: str = _setting(
        "pair",
        "who shares episode seeds and initial weights: nobody, a mirrored pair, or a whole generation",
        choices=COMMON_RANDOM_NUMBERS,
    )


@dataclass(frozen=True)
class RunConfig:
    """[run]: cadences and limits; none of these changes h, so all may change on resume."""

    checkpoint_every: int = _setting(10, "generations between checkpoints", **POSITIVE)
    center_every: int = _setting(
        1,
        "generations between evaluations of the center h, which decide «best»; 0: never",
        **NOT_NEGATIVE,
    )
    center_episodes: int = _setting(16, "episodes of such an evaluation", **POSITIVE)
    target_return: float | None = _setting(None, "stop when the center's mean return reaches this")
    max_hours: float | None = _setting(
        None,
        "stop, to be resumed, after so many hours of this call",
        expected="more than 0",
        check=_positive,
    )
    deadline_minutes: float = _setting(
        60.0, "give up when the other ranks haven't reached a collective in this time", **POSITIVE
    )
    max_failed_share: float = _setting(
        0.5,
        "stop the run when more than this share of a generation has a NaN or infinite fitness",
        **SHARE,
    )
    allow_drift: bool = _setting(
        False, "go on although ranks (or a resumed run's machine) compute different bits"
    )


@dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: int = _setting(
        0, "one seed for everything", expected="0 to 2⁶⁴ − 1", check=lambda v: 0 <= v < 2**64
    )
    generations: int = _setting(
        100, "updates of h", expected="0 to 2³² − 1", check=lambda v: 0 <= v < 2**32
    )
    population: int = _setting(
        128,
        "members per generation, in mirrored pairs",
        expected="an even number above 0",
        check=lambda v: v > 0 and v % 2 == 0,
    )
    device: str = _setting(
        "cpu",
        "where networks run: cpu, cuda (each rank of a node on a GPU of its own), or auto: cuda if there is one; "
        "stored as found",
        choices=DEVICES,
    )
    batch_members: int = _setting(
        0,
        "members that a rank evaluates in lock-step through torch; 0: on the cpu one after the other through compiled "
        "kernels, on cuda 256",
        **NOT_NEGATIVE,
    )
    env: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    variants: VariantsConfig = dataclasses.field(default_factory=VariantsConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    es: EvolutionConfig = dataclasses.field(default_factory=EvolutionConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
