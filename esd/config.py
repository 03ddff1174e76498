"""What a run is: frozen dataclasses read from TOML and ``--set``; every field has a type, a default, a check, a text.

All problems of a config are found before any is reported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from esd.errors import UsageError, nearest

NORMALIZATIONS = ("max", "none", "l2")
ACTIVATIONS = ("tanh", "relu", "none")
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
    episodes_per_member: int = _setting(
        1, "episodes a member is evaluated on; its return is their mean", **POSITIVE
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


@dataclass(frozen=True)
class HebbianConfig:
    """[policy] kind = "hebbian": a multilayer perceptron whose weights a learning rule rewires at every step."""

    rule: str = _setting("ABCD_lr", "the learning rule", choices=RULES)
    hidden: tuple[int, ...] = _setting(
        (128, 64),
        "sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )
    activation: str = _setting("tanh", "of the hidden layers", choices=ACTIVATIONS)
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
    coefficients: str = _setting(
        "normal", "h_0: normal (N(0, 1)) or uniform (±1)", choices=("normal", "uniform")
    )
    order: str = _setting("C", "how arrays are flattened into h", choices=("C", "F"))


@dataclass(frozen=True)
class StaticConfig:
    """[policy] kind = "static": the same network, its weights evolved directly."""

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
    env: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    es: EvolutionConfig = dataclasses.field(default_factory=EvolutionConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


def parse(table: Mapping[str, Any], source: str) -> Config:
    """Build a config from nested tables.

    Args:
        table: as TOML gives it.
        source: what to call it in messages.

    Raises:
        UsageError: naming every unknown key, wrong type and value out of range at once.
    """
    problems: list[str] = []
    config: Config = _build(Config, table, "", problems)
    if not problems:
        problems = _cross_checks(config)
    if problems:
        raise UsageError(f"{source}: " + "; ".join(problems))
    return config


def _cross_checks(config: Config) -> list[str]:
    es = config.es
    return [
        f"es.{name}_min = {floor}: expected at most es.{name} = {start}"
        for name, floor, start in (
            ("sigma", es.sigma_min, es.sigma),
            ("learning_rate", es.learning_rate_min, es.learning_rate),
        )
        if floor > start
    ]


def _build(cls: type[Any], table: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    """Make a dataclass from a table, adding to ``problems`` whatever is wrong with it."""
    if cls is PolicyConfig:
        return _build_policy(table, prefix, problems)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if key not in fields:
            problems.append(f"{path}: unknown key, {nearest(key, list(fields))}")
        else:
            before = len(problems)
            converted = _convert(value, hints[key], path, problems)
            if len(problems) == before:
                check = fields[key].metadata.get("check")
                if check is not None and converted is not None and not check(converted):
                    expected = fields[key].metadata["expected"]
                    problems.append(f"{path} = {_shown(value)}: expected {expected}")
                values[key] = converted
    return cls(**values)


def _build_policy(table: Mapping[str, Any], prefix: str, problems: list[str]) -> PolicyConfig:
    kind = table.get("kind", "hebbian")
    if not isinstance(kind, str) or (kind not in POLICY_KINDS and ":" not in kind):
        known = [*POLICY_KINDS, "module:Class"]
        problems.append(f"{prefix}kind = {_shown(kind)}: {nearest(str(kind), known)}")
        return PolicyConfig()
    rest = {key: value for key, value in table.items() if key != "kind"}
    settings = _build(POLICY_KINDS.get(kind, ModuleConfig), rest, prefix, problems)
    return PolicyConfig(kind, settings)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _convert(value: Any, hint: Any, path: str, problems: list[str]) -> Any:
    """Check a TOML value against a type hint and turn lists into tuples, ints into floats, tables into dataclasses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _convert(value, hint, path, problems)
    if origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(
                _convert(item, arguments[0], f"{path}[{i}]", problems)
                for i, item in enumerate(value)
            )
        problems.append(f"{path} = {_shown(value)}: expected a list")
        return None
    if hint is Wrapper and isinstance(value, str):
        value = {"id": value}
    if dataclasses.is_dataclass(hint) or origin is dict:
        if not isinstance(value, Mapping):
            problems.append(f"{path} = {_shown(value)}: expected a table")
            return None
        return (
            dict(value)
            if origin is dict
            else _build(typing.cast(Any, hint), value, f"{path}.", problems)
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
        problems.append(f"{path} = {_shown(value)}: expected {names[hint]}")
        return None
    if hint is float and not math.isfinite(value):
        problems.append(f"{path} = {value}: expected a finite number")
    return value


def to_table(config: Any) -> dict[str, Any]:
    """The nested tables of a config, every field written out, unset ones left away; ``parse`` reads them back."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, PolicyConfig):
            table[field.name] = {"kind": value.kind, **to_table(value.settings)}
        elif dataclasses.is_dataclass(value):
            table[field.name] = to_table(value)
        elif isinstance(value, tuple):
            table[field.name] = [
                to_table(item) if dataclasses.is_dataclass(item) else item for item in value
            ]
        elif value is not None:
            table[field.name] = value
    return table


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, ``es.sigma`` and so on."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings_of_h(config: Config) -> dict[str, Any]:
    """The flat settings that h depends on: everything but ``generations`` and [run]."""
    flat = flatten(to_table(config))
    return {k: v for k, v in flat.items() if k != "generations" and not k.startswith("run.")}


def identity(config: Config) -> str:
    """Hash of the settings that h depends on; the same for two configs exactly if they give the same h."""
    return hashlib.sha256(json.dumps(settings_of_h(config), sort_keys=True).encode()).hexdigest()


def differences_that_matter(stored: Config, asked: Config) -> list[str]:
    """Where two configs would give a different h, one text per key."""
    old, new = settings_of_h(stored), settings_of_h(asked)
    return [
        f"{key} = {_shown(new.get(key, 'unset'))}, but the run has {_shown(old.get(key, 'unset'))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def experiment_names() -> list[str]:
    """The shipped experiments, sorted."""
    folder = resources.files("esd") / "experiments"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_experiment(experiment: str) -> tuple[str, dict[str, Any]]:
    """Read an experiment by name, or a TOML file by path.

    Returns:
        Its name (the file's stem) and its tables.

    Raises:
        UsageError: if there is no such experiment or file, or it is not TOML.
    """
    path = Path(experiment)
    if experiment in experiment_names():
        text = (resources.files("esd") / "experiments" / f"{experiment}.toml").read_text("utf-8")
    elif experiment.endswith(".toml") or path.is_file():
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{experiment}: can't be read ({error})") from None
    else:
        hint = nearest(experiment, experiment_names())
        raise UsageError(f"experiment {experiment!r}: no such experiment or TOML file, {hint}")
    try:
        return path.stem, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{experiment}: not valid TOML, {error}") from None


def describe_settings() -> dict[str, str]:
    """Every setting by its dotted name, with its text and default."""
    described: dict[str, str] = {}

    def describe(cls: type[Any], prefix: str) -> None:
        for field in dataclasses.fields(cls):
            if "text" in field.metadata:
                expected = field.metadata["expected"]
                default = field.default
                if default is dataclasses.MISSING:
                    default = {}
                described[prefix + field.name] = (
                    f"{field.metadata['text']}{f' ({expected})' if expected else ''} [default: {_default(default)}]"
                )

    describe(Config, "")
    for section, cls in (("env", EnvironmentConfig), ("es", EvolutionConfig), ("run", RunConfig)):
        describe(cls, f"{section}.")
    for kind, settings in {**POLICY_KINDS, "module:Class": ModuleConfig}.items():
        describe(settings, f"policy.<{kind}>.")
    return described


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def apply_settings(table: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``table`` with ``key=value`` strings set; a value is TOML, or else a bare string.

    Raises:
        UsageError: if a setting has no «=» or goes through something that isn't a table.
    """
    result = _copied(table)
    for setting in settings:
        path, equals, text = setting.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise UsageError(f"--set {setting}: expected key=value, such as es.sigma=0.1")
        target = result
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {setting}: {key} is not a table")
        value = _parsed(text.strip())
        if keys == ["policy", "kind"]:
            _drop_settings_of_other_kinds(target, value)
        target[keys[-1]] = value
    return result


def _drop_settings_of_other_kinds(policy: dict[str, Any], kind: Any) -> None:
    """Let ``--set policy.kind=…`` change an experiment's kind: what only the old kind knows is left away."""
    if kind != policy.get("kind", "hebbian"):
        known = {f.name for f in dataclasses.fields(POLICY_KINDS.get(kind, ModuleConfig))}
        for key in policy.keys() - known:
            del policy[key]


def _copied(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copied(value) if isinstance(value, Mapping) else value for key, value in table.items()
    }


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
