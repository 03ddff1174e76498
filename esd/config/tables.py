"""Configs as tables: read from TOML and ``--set``, checked, written, compared.

All problems of a config are found before any is reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esd.config.kinds import ALGORITHMS
from esd.config.policies import POLICY_KINDS, ModuleConfig, PolicyConfig
from esd.config.settings import (
    NOT_OF_OBJECTIVES,
    Config,
    EvolutionSettings,
    VariantsConfig,
    Wrapper,
)
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
    if config.objective.named:
        problems += _of_episodes(table)
    if not problems:
        problems = _cross_checks(config)
    if problems:
        raise UsageError(f"{source}: " + "; ".join(problems))
    return config


def _of_episodes(table: Mapping[str, Any]) -> Iterator[str]:
    """A line if settings of policies and environments stand beside an objective."""
    named = [key for key in table if key in NOT_OF_OBJECTIVES]
    if named:
        yield f"{', '.join(named)}: not in the run of an objective, which has no policy and no environment; remove them"


def _cross_checks(config: Config) -> list[str]:
    names = [variant.name for variant in config.env.variants]
    problems = [
        f"env.variants: {names.count(name)} are called {name!r}; every one needs a name of its own"
        for name in sorted({*names})
        if names.count(name) > 1 or not name
    ]
    if names and all(variant.unseen for variant in config.env.variants):
        problems.append("env.variants: all are unseen, nothing is left to train on")
    return [*problems, *config.objective.problems(), *config.es.problems()]


def _build(cls: type[Any], table: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    """Make a dataclass from a table, adding to ``problems`` whatever is wrong with it."""
    if cls is PolicyConfig:
        return _build_policy(table, prefix, problems)
    if cls is EvolutionSettings:
        cls = _algorithm_settings(table, prefix, problems)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if key not in fields:
            problems.append(f"{path}: unknown key{_of_kind(cls)}, {nearest(key, list(fields))}")
        else:
            before = len(problems)
            converted = _convert(value, hints[key], path, problems)
            if len(problems) == before:
                check = fields[key].metadata.get("check")
                if check is not None and converted is not None and not check(converted):
                    expected = fields[key].metadata["expected"]
                    problems.append(f"{path} = {shown(value)}: expected {expected}")
                values[key] = converted
    return cls(**values)


def _of_kind(cls: type[Any]) -> str:
    """For messages about a section whose keys depend on what it names."""
    if issubclass(cls, EvolutionSettings):
        return f" of es.algorithm = {cls.algorithm!r}"
    return ""


def _build_policy(table: Mapping[str, Any], prefix: str, problems: list[str]) -> PolicyConfig:
    kind = table.get("kind", "hebbian")
    if not isinstance(kind, str) or (kind not in POLICY_KINDS and ":" not in kind):
        known = [*POLICY_KINDS, "module:Class"]
        problems.append(f"{prefix}kind = {shown(kind)}: {nearest(str(kind), known)}")
        return PolicyConfig()
    rest = {key: value for key, value in table.items() if key != "kind"}
    settings = _build(POLICY_KINDS.get(kind, ModuleConfig), rest, prefix, problems)
    return PolicyConfig(kind, settings)


def _algorithm_settings(
    table: Mapping[str, Any], prefix: str, problems: list[str]
) -> type[EvolutionSettings]:
    """The settings that [es] may have, which depend on the algorithm that it names."""
    try:
        return settings_of_algorithm(table)
    except UsageError as error:
        problems.append(str(error))
        return EvolutionSettings


def settings_of_algorithm(table: Mapping[str, Any]) -> type[EvolutionSettings]:
    """What [es] may hold, by the algorithm in it.

    Raises:
        UsageError: if there is no such algorithm.
    """
    kind = table.get("algorithm", "openai_es")
    settings: type[EvolutionSettings] = ALGORITHMS.find(
        kind if isinstance(kind, str) else repr(kind)
    ).settings
    return settings


def shown(value: Any) -> str:
    """A value as it stands in a message."""
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
        problems.append(f"{path} = {shown(value)}: expected a list")
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
            problems.append(f"{path} = {shown(value)}: expected a table")
            return None
        if origin is not dict:
            return _build(typing.cast(Any, hint), value, f"{path}.", problems)
        if dataclasses.is_dataclass(arguments[1]):
            return {
                key: _convert(item, arguments[1], f"{path}.{key}", problems)
                for key, item in value.items()
            }
        _refuse_what_no_hash_takes(value, path, problems)
        return dict(value)
    if hint is Any:
        _refuse_what_no_hash_takes(value, path, problems)
        return _with_floats(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
        problems.append(f"{path} = {shown(value)}: expected {names[hint]}")
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


def _with_floats(value: Any) -> Any:
    """Nested lists with every integer as a float: 1 and 1.0 are the same setting."""
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1000 else math.inf
    return value


def to_table(config: Any, version: int | None = None) -> dict[str, Any]:
    """The nested tables of a config, every field written out, unset ones left away; ``parse`` reads them back.

    Args:
        config: a config, or a part of one.
        version: leave out what came later and is at its default.
    """
    table: dict[str, Any] = {}
    absent = config.absent if isinstance(config, Config) else ()
    for field in dataclasses.fields(config):
        if field.name in absent:
            continue
        value = getattr(config, field.name)
        later = version is not None and field.metadata.get("since", 1) > version
        if later and value == field.default:
            continue
        if isinstance(value, PolicyConfig):
            table[field.name] = {"kind": value.kind, **to_table(value.settings, version)}
        elif dataclasses.is_dataclass(value):
            table[field.name] = to_table(value, version)
        elif isinstance(value, tuple):
            table[field.name] = [
                to_table(item, version) if dataclasses.is_dataclass(item) else item
                for item in value
            ]
        elif isinstance(value, dict):
            table[field.name] = {
                key: to_table(item, version) if dataclasses.is_dataclass(item) else item
                for key, item in value.items()
            }
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


def apply_settings(table: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``table`` with ``key=value`` strings set; a value is TOML, or else a bare string.

    Raises:
        UsageError: if a setting has no «=» or goes through something that isn't a table.
    """
    result = copied(table)
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
            drop_settings_of_other_kinds(target, value)
        elif keys == ["es", "algorithm"]:
            drop_settings_of_other_algorithms(target, value)
        target[keys[-1]] = value
    return result


def drop_settings_of_other_kinds(policy: dict[str, Any], kind: Any) -> None:
    """Let ``--set policy.kind=…`` change an experiment's kind: what only the old kind knows is left away."""
    if kind != policy.get("kind", "hebbian"):
        # (what is no text at all is refused by ``parse``)
        settings = POLICY_KINDS.get(kind, ModuleConfig) if isinstance(kind, str) else ModuleConfig
        known = {f.name for f in dataclasses.fields(settings)}
        for key in policy.keys() - known:
            del policy[key]


def drop_settings_of_other_algorithms(es: dict[str, Any], algorithm: Any) -> None:
    """The same for ``--set es.algorithm=…``."""
    if algorithm != es.get("algorithm", "openai_es"):
        with contextlib.suppress(UsageError):  # an unknown algorithm is refused by ``parse``
            known = {
                f.name
                for f in dataclasses.fields(settings_of_algorithm({**es, "algorithm": algorithm}))
            }
            for key in es.keys() - known:
                del es[key]


def copied(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested tables."""
    return {
        key: copied(value) if isinstance(value, Mapping) else value for key, value in table.items()
    }


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
