"""What a run is: frozen dataclasses; every field has a type, a default, a check and a text.

``config_policies`` has those of the policies; ``config_tables`` reads and writes all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from esd.config.fields import MILLION, NOT_NEGATIVE, POSITIVE, SECOND_VERSION, SHARE, setting
from esd.config.kinds import ALGORITHMS
from esd.config.objective import MINIMIZE, ON_FAILURE, STOP, ObjectiveConfig
from esd.config.policies import PolicyConfig

LOW_RANK = "low_rank"
NOISE_NAMES = ("gaussian", "rademacher", "binomial", LOW_RANK)
COMMON_RANDOM_NUMBERS = ("none", "pair", "generation")
REBUILD = ("auto", "always", "never")
REDUCTION_NAMES = ("mean", "min", "mean_of_ranks")
DEVICES = ("cpu", "cuda", "auto")
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
DEFAULT_EXPERIMENT = "cartpole"
FORMAT = 3  # of new runs; a run whose config.toml names none has the first
EXACT_SINCE = 3  # ties of “mean_of_ranks” are exact, and “transform” is computed in float64
NOT_OF_OBJECTIVES = ("device", "batch_members", "env", "policy")


@dataclass(frozen=True)
class Wrapper:
    """A Gymnasium wrapper around the environment, the first listed innermost."""

    id: str = setting(
        "", "Wrapper class, as module:Class", expected="module:Class", check=lambda v: ":" in v
    )
    kwargs: dict[str, Any] = setting({}, "Keyword arguments of the wrapper")


@dataclass(frozen=True)
class Variant:
    """One of the bodies (or worlds) that a member is evaluated on: [env] with some of it changed."""

    name: str = setting(
        "",
        "Name of the variant in every result",
        expected="a name without control characters",
        check=lambda v: bool(v) and v.isprintable(),
    )
    id: str = setting("", "Gymnasium id of the variant. Empty: env.id")
    kwargs: dict[str, Any] = setting(
        {}, "Keyword arguments that are added to env.kwargs or replace them"
    )
    wrappers: tuple[Wrapper, ...] = setting((), "Wrappers around those of env.wrappers")
    unseen: bool = setting(False, "Exclude the variant from training; only esd eval uses it")


@dataclass(frozen=True)
class EnvironmentConfig:
    """[env]: where members live, and what one evaluation of a member is."""

    id: str = setting(
        "CartPole-v1",
        "Environment: a Gymnasium id, module:Env-v0 if the module registers it, or module:Class",
        expected="a Gymnasium id",
        check=bool,
    )
    kwargs: dict[str, Any] = setting({}, "Keyword arguments of gymnasium.make")
    reset_options: dict[str, Any] = setting(
        {}, "Options passed to every reset of the environment", since=SECOND_VERSION
    )
    wrappers: tuple[Wrapper, ...] = setting(
        (), 'Wrappers, innermost first: "module:Class" or {id = "module:Class", kwargs = {…}}'
    )
    variants: tuple[Variant, ...] = setting(
        (),
        "Variants of the environment on which each member is evaluated, as [[env.variants]] tables with "
        "name, kwargs, wrappers, id, unseen",
    )
    episodes_per_member: int = setting(
        1,
        "Episodes per member on every variant. The return on a variant is their mean",
        **MILLION,
    )
    max_steps: int = setting(
        0,
        "Maximum number of steps per episode. 0: only the environment's own limit, which "
        "env.kwargs.max_episode_steps changes",
        **NOT_NEGATIVE,
    )
    stop_after_negative: int = setting(
        0, "Stop an episode after this many negative rewards in a row. 0: never", **NOT_NEGATIVE
    )
    normalize_observations: bool = setting(
        False,
        "Normalize observations by the mean and standard deviation of the run so far, and clip them to ±10",
    )
    rebuild: str = setting(
        "auto",
        "Create the environment again for every episode, for environments whose reset() does not clear everything. "
        "auto: only if it keeps a Box2D world, such as BipedalWalker and CarRacing",
        choices=REBUILD,
    )
    compiled: str = setting(
        "auto",
        "auto: run whole episodes in compiled code if that gives the same bits. never: always call the "
        "environment's step()",
        choices=("auto", "never"),
        since=SECOND_VERSION,
    )

    episode_seconds: float | None = setting(
        None,
        "Time limit of an episode in seconds of wall time; env.on_failure defines what happens after it",
        since=SECOND_VERSION,
        **POSITIVE,
    )
    on_failure: str = setting(
        STOP,
        "What happens if an episode raises an error, takes longer than env.episode_seconds, or crashes its process "
        "three times. stop: the run ends and reports the member; worst: the member ranks last in its generation",
        choices=ON_FAILURE,
        since=SECOND_VERSION,
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

    reduce: str = setting(
        "mean",
        "How a member's returns on the variants are reduced to one fitness: their mean, min (the worst), or "
        "mean_of_ranks (the mean of its centered ranks on each variant, for returns of different scales)",
        choices=REDUCTION_NAMES,
    )


@dataclass(frozen=True)
class EvolutionSettings:
    """[es]: the evolution strategy. Every algorithm has these settings; its own stand in its file."""

    algorithm: str = setting(
        "openai_es", "Evolution strategy (esd list algorithms)", since=SECOND_VERSION
    )
    sigma: float = setting(
        0.1,
        "Standard deviation of the perturbations; the initial one if the algorithm adapts it",
        expected="more than 0 and at most 4e37",
        check=lambda v: 0 < v <= 4e37,  # with more, a perturbation could be infinite in float32
    )
    fitness_penalty: float = setting(
        0.0,
        "Weight penalty: penalty · mean(h²) of a member is subtracted from its return before ranking",
        **NOT_NEGATIVE,
    )
    noise: str = setting(
        "gaussian",
        "Distribution of the perturbations. low_rank: products of normal factors (docs/algorithms.md)",
        choices=NOISE_NAMES,
    )
    rank: int = setting(
        1,
        "Rank of the perturbation of each matrix, with es.noise = low_rank",
        since=SECOND_VERSION,
        **POSITIVE,
    )
    common_random_numbers: str = setting(
        "pair",
        "Which members share episode seeds and initial weights: none, a mirrored pair, or a whole "
        "generation",
        choices=COMMON_RANDOM_NUMBERS,
    )

    def noise_problems(self) -> Iterator[str]:
        """What is wrong with the noise that every algorithm has."""
        if self.rank != 1 and self.noise != LOW_RANK:
            yield (
                f'es.rank = {self.rank}: only es.noise = "{LOW_RANK}" has a rank, but es.noise = "{self.noise}"; '
                "remove es.rank or change es.noise"
            )

    def problems(self) -> Iterator[str]:
        """What is wrong although every setting by itself is right: a line each."""
        yield from ()

    def unused(self) -> Iterator[str]:
        """The settings that do nothing beside the others: by ``optimizer``, those of other optimizers."""
        yield from ()


def _default_algorithm() -> EvolutionSettings:
    settings: EvolutionSettings = ALGORITHMS.find("openai_es").settings()
    return settings


@dataclass(frozen=True)
class RunConfig:
    """[run]: cadences and limits; none of these changes h, so all may change on resume."""

    checkpoint_every: int = setting(
        0,
        "Generations between checkpoints. 0: every 10 generations, but at most one per second",
        **NOT_NEGATIVE,
    )
    center_every: int = setting(
        1,
        "Generations between evaluations of the center h, which select the best checkpoint. 0: never",
        **NOT_NEGATIVE,
    )
    center_episodes: int = setting(16, "Episodes per evaluation of the center", **POSITIVE)
    target_return: float | None = setting(
        None, "Stop when the center's mean return reaches this value"
    )
    max_hours: float | None = setting(
        None,
        "Stop after this many hours of wall time; the same command resumes",
        **POSITIVE,
    )
    deadline_minutes: float = setting(
        60.0,
        "Time limit in minutes for everything except evaluations, such as an update or a checkpoint, and for "
        "waiting for other ranks while no rank evaluates",
        **POSITIVE,
    )
    silence_seconds: float = setting(
        60.0,
        "Time in seconds after which a rank that is stopped, or a host that does not respond, counts as lost",
        since=SECOND_VERSION,
        **POSITIVE,
    )
    max_failed_share: float = setting(
        0.5,
        "Stop the run if more than this share of a generation's members has a NaN or infinite fitness, or no result",
        **SHARE,
    )
    compare_nodes_every: int = setting(
        10,
        "Generations between comparisons of the nodes' states by their hashes. 0: never",
        **NOT_NEGATIVE,
    )
    unsaved_generations: int = setting(
        100,
        "Maximum number of generations that exist only in memory because the run's folder can't be written. After "
        "that the run stops with exit code 75. 0: stop at the first failure",
        **NOT_NEGATIVE,
    )
    loggers: tuple[str, ...] = setting(
        (),
        "Copies of metrics.jsonl for other tools, in logs/: csv, tensorboard, wandb, mlflow (docs/metrics.md)",
        expected=f"a list of {', '.join(LOGGERS)}, each at most once",
        check=lambda v: set(v) <= set(LOGGERS) and len(set(v)) == len(v),
        since=SECOND_VERSION,
    )
    allow_drift: bool = setting(
        False,
        "Continue even if ranks, or the machine on which a run is resumed, compute different bits",
    )


@dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: int = setting(
        0, "Seed of the whole run", expected="0 to 2⁶⁴ − 1", check=lambda v: 0 <= v < 2**64
    )
    generations: int = setting(
        100,
        "Number of generations, each with one update of h",
        expected="0 to 2³² − 1",
        check=lambda v: 0 <= v < 2**32,
    )
    population: int = setting(
        128,
        "Population size: members per generation, in mirrored pairs",
        expected="an even number above 0",
        check=lambda v: v > 0 and v % 2 == 0,
    )
    device: str = setting(
        "cpu",
        "Device on which networks run: cpu, cuda (one GPU per rank of a node), or auto: cuda if it is available. "
        "The resolved device is stored",
        choices=DEVICES,
    )
    batch_members: int = setting(
        0,
        "Members that a rank evaluates in lock-step through torch. 0: 256 on cuda; on the CPU, 64 for torch"
        " modules in compiled environments, and compiled kernels for everything else. 1: one member at a "
        "time",
        **NOT_NEGATIVE,
    )
    format: int = setting(
        FORMAT,
        "Version of the evaluation rules. A run keeps the version with which it was started",
        expected=f"1 to {FORMAT}; a larger one comes from a newer esd",
        check=lambda v: 1 <= v <= FORMAT,
    )
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    env: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    variants: VariantsConfig = dataclasses.field(default_factory=VariantsConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    es: EvolutionSettings = dataclasses.field(default_factory=_default_algorithm)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)

    @property
    def lockstep(self) -> bool:
        """Whether members are evaluated in lock-step whatever the policy; if not, those of a torch module may be."""
        alone = 1 if self.format > 1 else 0  # in the first, 1 is one slot
        return self.device != "cpu" or self.batch_members > alone

    @property
    def reduction(self) -> str:
        """How returns on several variants become a fitness: ``variants.reduce``, as the run's format has it."""
        rounded = self.variants.reduce == "mean_of_ranks" and self.format < EXACT_SINCE
        return "mean_of_rounded_ranks" if rounded else self.variants.reduce

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of the values that one evaluation gives: trained variants, or an objective's; () without names."""
        if self.objective.named:
            return self.objective.values
        return tuple(variant.name for variant in self.env.trained if variant.name)

    @property
    def sign(self) -> float:
        """What turns the user's values into those that evolution maximizes, and back: 1.0, or −1.0 to minimize.

        Records, the journal and checkpoints hold maximized values; whatever a user reads or writes is in the user's
        own sign.
        """
        return -1.0 if self.objective.direction == MINIMIZE else 1.0

    @property
    def on_failure(self) -> str:
        """What becomes of a member whose evaluation fails."""
        return self.objective.on_failure if self.objective.named else self.env.on_failure

    @property
    def absent(self) -> tuple[str, ...]:
        """The fields that such a run doesn't have: it evaluates an objective, or plays episodes."""
        return NOT_OF_OBJECTIVES if self.objective.named else ("objective",)
