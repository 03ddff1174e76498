"""Configs as tables: read from TOML and ``--set``, checked, written, compared.

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
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from esd.config import (
    Config,
    EnvironmentConfig,
    EvolutionConfig,
    RunConfig,
    VariantsConfig,
    Wrapper,
)
from esd.config_policies import POLICY_KINDS, ModuleConfig, PolicyConfig
from esd.errors import UsageError, nearest


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
    es, names = config.es, [variant.name for variant in config.env.variants]
    problems = [
        f"env.variants: {names.count(name)} are called {name!r}; every one needs a name of its own"
        for name in sorted({*names})
        if names.count(name) > 1 or not name
    ]
    if names and all(variant.unseen for variant in config.env.variants):
        problems.append("env.variants: all are unseen, nothing is left to train on")
    return problems + [
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
        if hint is VariantsConfig and isinstance(value, list):
            problems.append(
                f"[[{path}]]: expected [[env.{path}]] for bodies; [{path}] says how the returns on them are reduced"
            )
            return None
        if not isinstance(value, Mapping):
            problems.append(f"{path} = {_shown(value)}: expected a table")
            return None
        if origin is not dict:
            return _build(typing.cast(Any, hint), value, f"{path}.", problems)
        _refuse_what_no_hash_takes(value, path, problems)
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
        problems.append(f"{path} = {_shown(value)}: expected {names[hint]}")
        return None
    if hint is float and not math.isfinite(value):
        problems.append(f"{path} = {value}: expected a finite number")
    return value


def _refuse_what_no_hash_takes(value: Any, path: str, problems: list[str]) -> None:
    """Keyword arguments are the user's, but part of ``identity``: JSON knows no dates, and a NaN is not itself."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_what_no_hash_takes(item, f"{path}.{key}", problems)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse_what_no_hash_takes(item, f"{path}[{i}]", problems)
    elif not isinstance(value, str | int | float | None) or value != value:
        problems.append(f"{path} = {value}: expected text, a number, true or false")


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


# a device has the bits of the CPU, but for a torch module, whose last bits may differ (docs/devices.md)
NOT_OF_H = ("generations", "device", "batch_members")


def settings_of_h(config: Config) -> dict[str, Any]:
    """The flat settings that h depends on: everything but ``generations``, the device, [run] and unseen variants."""
    flat = flatten(to_table(config))
    flat["env.variants"] = [v for v in flat["env.variants"] if not v["unseen"]]
    return {k: v for k, v in flat.items() if k not in NOT_OF_H and not k.startswith("run.")}


def identity(config: Config) -> str:
    """Hash of the settings that h depends on; two configs with the same one give the same h."""
    return hashlib.sha256(json.dumps(settings_of_h(config), sort_keys=True).encode()).hexdigest()


def differences_that_matter(stored: Config, asked: Config) -> list[str]:
    """Where two configs would give a different h, one text per key."""
    old, new = settings_of_h(stored), settings_of_h(asked)
    before, now = old.pop("env.variants"), new.pop("env.variants")
    return _differences_of_variants(before, now) + [
        f"{key} = {_shown(new.get(key, 'unset'))}, but the run has {_shown(old.get(key, 'unset'))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _differences_of_variants(stored: list[Any], asked: list[Any]) -> list[str]:
    """How the bodies that a run is trained on differ from those asked for, by their names: none if they don't."""
    old, new = ({variant["name"]: variant for variant in variants} for variants in (stored, asked))
    found = [f"{name!r} is not among the run's" for name in new if name not in old]
    found += [f"{name!r} of the run is missing" for name in old if name not in new]
    found += [
        f"{name!r} has {key} = {_shown(new[name][key])}, but the run has {_shown(old[name][key])}"
        for name in new
        if name in old
        for key in new[name]
        if new[name][key] != old[name][key]
    ]
    if not found and stored != asked:
        found = [f"in the run their order is {', '.join(map(repr, old))}"]
    return [f"env.variants trained on: {', '.join(found)}"] if found else []


def experiment_names() -> list[str]:
    """The shipped experiments, sorted."""
    folder = resources.files("esd") / "experiments"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_experiment(experiment: str) -> tuple[str, dict[str, Any]]:
    """Read an experiment by name, or a TOML file by path.

    A file may begin with ``extends = "…"``, another experiment or a file beside it, and then says only what differs.

    Returns:
        Its name (the file's stem) and its tables.

    Raises:
        UsageError: if there is no such experiment or file, it is not TOML, or it extends itself.
    """
    return Path(experiment).stem, _read_extended(experiment, ())


def _read_extended(experiment: str, readers: tuple[str, ...]) -> dict[str, Any]:
    """The tables of an experiment over those that it extends; ``readers`` are those that extend it."""
    place = Path(experiment).resolve()  # one file has many paths: "../x/me.toml" in x
    if any(Path(reader).resolve() == place for reader in readers):
        raise UsageError(f"{' extends '.join((*readers, experiment))}: it extends itself")
    table = _read_toml(experiment)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise UsageError(f"{experiment}: extends = {base}: expected an experiment or a TOML file")
    if base not in experiment_names():
        base = str(Path(experiment).parent / base)
    return _merged(_read_extended(base, (*readers, experiment)), table)


def _read_toml(experiment: str) -> dict[str, Any]:
    """The tables in an experiment's own file."""
    if experiment in experiment_names():
        text = (resources.files("esd") / "experiments" / f"{experiment}.toml").read_text("utf-8")
    elif experiment.endswith(".toml") or Path(experiment).is_file():
        try:
            text = Path(experiment).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{experiment}: can't be read ({error})") from None
    else:
        hint = nearest(experiment, experiment_names())
        raise UsageError(f"experiment {experiment!r}: no such experiment or TOML file, {hint}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{experiment}: not valid TOML, {error}") from None


def _merged(base: dict[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` over ``base``, table by table; of a policy of another kind only what that kind knows is kept."""
    result = _copied(base)
    for key, value in table.items():
        before = result.get(key)
        nested = isinstance(before, dict) and isinstance(value, Mapping)
        if nested and key == "policy" and "kind" in value:
            _drop_settings_of_other_kinds(before, value["kind"])  # type: ignore[arg-type]
        result[key] = _merged(before, value) if nested else value  # type: ignore[arg-type]
    return result


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
    for section, cls in (
        ("env", EnvironmentConfig),
        ("variants", VariantsConfig),
        ("es", EvolutionConfig),
        ("run", RunConfig),
    ):
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
        # (what is no text at all is refused by ``parse``)
        settings = POLICY_KINDS.get(kind, ModuleConfig) if isinstance(kind, str) else ModuleConfig
        known = {f.name for f in dataclasses.fields(settings)}
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
