"""Configs as tables: read from TOML and ``--set``, checked, written, compared.

All problems of a config are found before any is reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from esd.config.algorithms import settings_of_algorithm
from esd.config.assignments import (
    BareText,
    as_list,
    fitting,
    parse_assignment,
    plain,
    spelling,
)
from esd.config.descriptions import settings_by_key
from esd.config.near_settings import settings_like
from esd.config.policies import DEFAULT_KIND, ModuleSettings, PolicyConfig, settings_of_kind
from esd.config.settings import (
    NOT_OF_OBJECTIVES,
    Config,
    EvolutionSettings,
    VariantsConfig,
    Wrapper,
)
from esd.config.unimported import (
    Unimported,
    is_foreign,
    is_of_a_missing_package,
    without_class,
)
from esd.errors import LONGEST_VALUE, UsageError, closest, nearest, one_line, shortened, shown
from esd.reading import DEEPEST, depth_is_beyond

HINTS = 8  # for so many unknown keys the nearest is looked for
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1  # TOML's, and a seed's


def parse(table: Mapping[str, Any], source: str, importing: bool = True) -> Config:
    """Build a config from nested tables.

    Args:
        table: as TOML gives it.
        source: what to call it in messages.
        importing: an algorithm or optimizer that [es] names as ``module:Name`` may be imported, to know its settings;
            otherwise they are kept as they stand (``Unimported``), which is enough to look at them. So are those of
            an algorithm, an optimizer or a kind of policy that a package offers which is not installed here.

    Raises:
        UsageError: naming every unknown key, wrong type and value out of range at once.
    """
    problems = list(_beyond_any_setting(table))
    if not problems:
        config = _build_config(table, problems, importing)
        if config.objective.named:
            problems += _of_episodes(table)
    if not problems:
        problems = _cross_checks(config)
    if problems:
        raise UsageError(f"{one_line(source, 3 * LONGEST_VALUE)}: {_joined(problems)}")
    return config


def _build_config(table: Mapping[str, Any], problems: list[str], importing: bool) -> Config:
    """Make a config, adding to ``problems`` whatever is wrong with it."""
    policy = table.get("policy")
    if not importing and isinstance(policy, Mapping):
        kind = policy.get("kind", DEFAULT_KIND)
        if is_of_a_missing_package("policy.kind", kind):
            others = {key: value for key, value in table.items() if key != "policy"}
            read = _build_config(others, problems, importing)
            return dataclasses.replace(
                read, policy=_foreign_policy(kind, policy, "policy.", problems)
            )
    es = table.get("es")
    foreign = set()
    if not importing and isinstance(es, Mapping):
        foreign = {key for key in ("algorithm", "optimizer") if is_foreign(key, es)}
    if not foreign:
        built: Config = _build(Config, table, "", problems)
        return built
    assert isinstance(es, Mapping)
    rest = {key: value for key, value in table.items() if key != "es"}
    config: Config = _build(Config, rest, "", problems)
    settings: type[Any] = EvolutionSettings
    if "algorithm" not in foreign:
        try:
            settings = settings_of_algorithm({"algorithm": es.get("algorithm", "openai_es")})
        except UsageError as error:
            problems.append(str(error))
            return config
    names = {field.name for field in dataclasses.fields(settings)}
    declared = {key: value for key, value in es.items() if key in names}
    others = {key: value for key, value in es.items() if key not in names}
    _refuse_what_no_hash_takes(others, "es", problems)
    # a class of its own, since of EvolutionSettings itself the algorithm would be looked up
    known = _build(type(settings.__name__, (settings,), {}), declared, "es.", problems)
    return dataclasses.replace(config, es=without_class(known, plain(others)))


def _joined(problems: list[str]) -> str:
    """Problems in a row; of many the first."""
    text = ""
    for number, problem in enumerate(problems):
        shortened = one_line(problem, 3 * LONGEST_VALUE)
        if number and len(text) + len(shortened) > 6 * LONGEST_VALUE:
            return f"{text}; and {len(problems) - number} more"
        text += f"; {shortened}" if number else shortened
    return text


def _beyond_any_setting(table: Mapping[str, Any]) -> Iterator[str]:
    """A line for what no setting can be, and what nothing here could go through: depth and endless numbers."""
    if depth_is_beyond(table, DEEPEST):
        yield f"tables and lists are nested more than {DEEPEST} levels deep"
        return
    items: list[tuple[str, Any]] = [("", table)]
    while items:
        path, value = items.pop()
        if isinstance(value, Mapping):
            items += [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            items += [(path, item) for item in value]
        elif isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            yield f"{path} = {shown(value)}: expected a whole number of 64 bits"


def _of_episodes(table: Mapping[str, Any]) -> Iterator[str]:
    """A line if settings of policies and environments stand beside an objective."""
    named = [key for key in table if key in NOT_OF_OBJECTIVES]
    if named:
        yield (
            f"{', '.join(named)}: not supported with an objective, which has no policy or environment; remove "
            "these settings"
        )


def _cross_checks(config: Config) -> list[str]:
    names = [variant.name for variant in config.env.variants]
    problems = [
        f"env.variants: {count} are called {name!r}; give each a different name"
        for name, count in sorted(Counter(names).items())
        if count > 1 or not name
    ]
    if names and all(variant.unseen for variant in config.env.variants):
        problems.append(
            "env.variants: all variants are unseen; set unseen = false for at least one"
        )
    return [
        *problems,
        *config.objective.problems(),
        *config.es.noise_problems(),
        *config.es.problems(),
    ]


def parse_settings(
    cls: type[Any], table: Mapping[str, Any], section: str, owner: str, known: Sequence[str] = ()
) -> Any:
    """Read settings that somebody else's class has declared.

    Args:
        cls: their dataclass.
        table: as TOML gives it.
        section: where they stand in a config, for messages.
        owner: whose settings they are, for messages.
        known: other keys that may stand there.

    Raises:
        UsageError: naming every unknown key, wrong type and value out of range at once, or a field of the dataclass
            that no config can hold.
    """
    problems: list[str] = []
    try:
        settings = _build(cls, table, f"{section}.", problems, f" of {owner}", known)
    except (TypeError, KeyError, NameError) as error:
        raise UsageError(
            f"{owner}: its settings class {cls.__name__} can't be read ({type(error).__name__}: {error}); expected "
            "a dataclass whose fields have defaults and are int, float, bool, str, tuple[…, ...] or dict"
        ) from error
    if problems:
        raise UsageError(_joined(problems))
    return settings


def _build(
    cls: type[Any],
    table: Mapping[str, Any],
    prefix: str,
    problems: list[str],
    owner: str = "",
    known: Sequence[str] = (),
) -> Any:
    """Make a dataclass from a table, adding to ``problems`` whatever is wrong with it."""
    if cls is PolicyConfig:
        return _build_policy(table, prefix, problems)
    if cls is EvolutionSettings:
        chosen = _algorithm_settings(table, prefix, problems)
        if chosen is None:
            return EvolutionSettings()
        cls = chosen
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hashable: Any = cls  # which mypy doesn't know it to be
    hints = _hints(hashable)
    values: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if key not in fields:
            path = one_line(path, LONGEST_VALUE)
            hint = _meant(path, key, [*fields, *known]) if len(problems) < HINTS else ""
            problems.append(f"{path}: unknown key{owner or _of_kind(cls, table)}, {hint}")
        else:
            before = len(problems)
            converted = _convert(value, hints[key], path, problems)
            if len(problems) == before:
                check = fields[key].metadata.get("check")
                if check is not None and converted is not None and not check(converted):
                    expected = fields[key].metadata["expected"]
                    problems.append(f"{path} = {shown(value)}: expected {expected}")
                values[key] = converted
    for key, field in fields.items():
        check, default = field.metadata.get("check"), field.default
        if key in table or check is None or default is None or default is dataclasses.MISSING:
            continue
        if not check(default):  # there is no default that would do
            problems.append(f"{prefix}{key}: is missing; expected {field.metadata['expected']}")
    return cls(**values)


def _meant(path: str, key: str, known: list[str]) -> str:
    """Which setting is meant by an unknown one: of another section if its last part is the same, else of this one."""
    found = [name for name in settings_like(path, settings_by_key()) if name != path]
    same = [name for name in found if name.endswith(f".{key}")]
    # a name that several other sections have, such as kwargs, does not say which one is meant
    if len(same) == 1 or (found and not same and not closest(key, known)):
        return f"did you mean {' or '.join(map(repr, found[:3]))}?"
    return nearest(key, known)


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields; a config is read again and again."""
    return typing.get_type_hints(cls)


def _of_kind(cls: type[Any], table: Mapping[str, Any]) -> str:
    """For messages about a section whose keys depend on what it names."""
    if issubclass(cls, EvolutionSettings):
        return f" of es.algorithm = {shown(table.get('algorithm', cls.algorithm))}"
    return ""


def _build_policy(table: Mapping[str, Any], prefix: str, problems: list[str]) -> PolicyConfig:
    kind = table.get("kind", DEFAULT_KIND)
    try:
        cls = settings_of_kind(kind)
    except UsageError as error:
        problems.append(str(error))
        return PolicyConfig()
    if cls is ModuleSettings:
        return _foreign_policy(str(kind), table, prefix, problems)
    rest = {key: value for key, value in table.items() if key != "kind"}
    settings = _build(cls, rest, prefix, problems, f" of policy.kind = {kind!r}")
    return PolicyConfig(str(kind), settings)


def _foreign_policy(
    kind: str, table: Mapping[str, Any], prefix: str, problems: list[str]
) -> PolicyConfig:
    """A policy of a kind whose settings are not known here."""
    rest = {key: value for key, value in table.items() if key != "kind"}
    kwargs = {"kwargs": rest.pop("kwargs")} if "kwargs" in rest else {}
    _refuse_what_no_hash_takes(rest, prefix.removesuffix("."), problems)
    settings = _build(ModuleSettings, kwargs, prefix, problems)
    return PolicyConfig(kind, dataclasses.replace(settings, own=plain(rest)))


def _algorithm_settings(
    table: Mapping[str, Any], prefix: str, problems: list[str]
) -> type[EvolutionSettings] | None:
    """The settings that [es] may have, which depend on the algorithm and the optimizer; None without an algorithm."""
    try:
        return settings_of_algorithm(table)
    except UsageError as error:
        problems.append(str(error))
    try:  # with another optimizer the other keys can still be looked at
        return settings_of_algorithm({"algorithm": table.get("algorithm", "openai_es")})
    except UsageError:
        return None


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
        advice = ""
        if isinstance(value, BareText | int | float | str):
            advice = f", such as {as_list(value, arguments[0] in (int, float))}"
        problems.append(f"{path} = {shown(value)}: expected a list{advice}")
        return None
    if hint is Wrapper and isinstance(value, str):
        value = {"id": value}
    if dataclasses.is_dataclass(hint) or origin is dict:
        if hint is VariantsConfig and isinstance(value, list):
            problems.append(
                f"[[{path}]]: expected [[env.{path}]] for variants of the environment; [{path}] configures how "
                "their returns are reduced"
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
        return plain(dict(value))
    if hint is Any:
        _refuse_what_no_hash_takes(value, path, problems)
        return _with_floats(plain(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < LARGEST_INTEGER else math.inf
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
        advice = fitting(value, hint) if isinstance(value, BareText) else ""
        problems.append(
            f"{path} = {shown(value)}: expected {names[hint]}{advice and f'; {shortened(advice, 200)}'}"
        )
        return None
    if hint is float and not math.isfinite(value):
        problems.append(f"{path} = {value}: expected a finite number")
    if hint is int and abs(value) >= (2**64 if path == "seed" else 2**63):
        problems.append(f"{path} = {shown(value)}: expected an integer of at most 2⁶³ − 1")
    return plain(value)


def _refuse_what_no_hash_takes(value: Any, path: str, problems: list[str]) -> None:
    """Keyword arguments are the user's, but part of ``identity``: JSON knows no dates, and a NaN is not itself.

    A word of ``--set`` that looks like another language's for something else is refused, too: nobody could see that it
    has become text.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_what_no_hash_takes(item, f"{path}.{key}", problems)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse_what_no_hash_takes(item, f"{path}[{i}]", problems)
    elif not isinstance(value, str | int | float | None) or value != value:
        expected = "anything but nan" if value != value else "a string, a number, true or false"
        problems.append(f"{path} = {shown(value)}: expected {expected}")
    elif isinstance(value, BareText) and (advice := spelling(value)):
        problems.append(f"{path} = {shortened(value, 60)}: {shortened(advice, 300)}")


def _with_floats(value: Any) -> Any:
    """Nested lists with every integer as a float: 1 and 1.0 are the same setting."""
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < LARGEST_INTEGER else math.inf
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
        since = field.metadata.get("since", 1)
        later = version is not None and since > version
        # who reads a table without the user's class doesn't know that a setting of it came later
        later = later or (since > 1 and _is_users(config, field.name))
        if later and value == (
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory()
        ):
            continue
        if isinstance(value, PolicyConfig):
            table[field.name] = {"kind": value.kind, **to_table(value.settings, version)}
            if isinstance(value.settings, ModuleSettings):
                table[field.name] |= copied(table[field.name].pop("own"))
        elif dataclasses.is_dataclass(value):
            table[field.name] = to_table(value, version)
            if isinstance(value, Unimported):
                table[field.name] |= copied(table[field.name].pop("others"))
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


def _is_users(config: Any, name: str) -> bool:
    """Whether a user's algorithm or optimizer has declared a setting of [es]."""
    if not isinstance(config, EvolutionSettings):
        return False
    declares = (base for base in type(config).__mro__ if name in inspect.get_annotations(base))
    return not next(declares).__module__.startswith("esd.")


def flatten(
    table: Mapping[str, Any],
    prefix: str = "",
    stays_whole: Callable[[str, Mapping[str, Any]], bool] = lambda name, inner: False,
) -> dict[str, Any]:
    """Nested tables as one, ``es.sigma`` and so on.

    Args:
        table: with tables in it.
        prefix: of its names.
        stays_whole: whether a table of this name is a value.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not stays_whole(name, value):
            flat.update(flatten(value, f"{name}.", stays_whole))
        else:
            flat[name] = value
    return flat


NAMED = {"seed", "population", "env.id", "policy.kind", "es.algorithm"}  # whatever they are


def not_default(config: Any, prefix: str = "") -> set[str]:
    """The settings that say what a config is: those that differ from their default, by their flat names.

    Args:
        config: a config, or a part of one.
        prefix: of its names.
    """
    found = set()
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):  # a policy's own settings stand beside its kind
            found |= not_default(value, prefix if field.name == "settings" else f"{name}.")
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(value, Mapping) and value:
            found |= {f"{name}.{key}" for key in flatten(value)}
        elif name in NAMED or value != default:
            found.add(name)
    return found


def apply_settings(table: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``table`` with ``key=value`` strings set; a value is TOML, or else a bare text.

    What other settings there are depends on ``policy.kind``, ``es.algorithm`` and ``es.optimizer``, so these come
    first, in whatever place they stand. Of several values of one key the last one counts.

    Raises:
        UsageError: if a setting is no ``key=value``, goes through something that isn't a table, or replaces a table
            of which an earlier setting has changed a part.
    """
    result = copied(table)
    parsed = [(setting, *parse_assignment(setting)) for setting in settings]
    order = {place: number for number, place in enumerate(DROPS)}
    parsed.sort(key=lambda item: order.get(tuple(item[1]), len(order)))
    for position, (setting, keys, value) in enumerate(parsed):
        shown_setting = f"--set {shortened(setting, 200)}"
        target = result
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise UsageError(f"{shown_setting}: {shortened(key)} is not a table")
        for other, inner, _ in parsed[:position]:
            if len(inner) > len(keys) and inner[: len(keys)] == keys:
                raise UsageError(
                    f"{shown_setting}: overrides the earlier --set {shortened(other, 200)}; remove one of them"
                )
        if (place := tuple(keys)) in DROPS:
            DROPS[place](target, value)
        target[keys[-1]] = value
    return result


def _drop_settings_of_other_kinds(policy: dict[str, Any], kind: Any) -> None:
    """Let ``--set policy.kind=…`` change an experiment's kind: what only the old kind knows is left away."""
    if kind != policy.get("kind", DEFAULT_KIND):
        with contextlib.suppress(UsageError):  # an unknown kind is refused by ``parse``
            known = {f.name for f in dataclasses.fields(settings_of_kind(kind)) if f.name != "own"}
            for key in policy.keys() - known:
                del policy[key]


def _drop_settings_of_other_algorithms(es: dict[str, Any], algorithm: Any) -> None:
    """The same for ``--set es.algorithm=…``: one's learning rate is not another's, even if both have one."""
    if algorithm != es.get("algorithm", "openai_es"):
        shared = {field.name for field in dataclasses.fields(EvolutionSettings)}
        for key in es.keys() - shared:
            del es[key]


def _drop_settings_of_other_optimizers(es: dict[str, Any], optimizer: Any) -> None:
    """The same for ``--set es.optimizer=…``: what only the old optimizer declares is left away."""
    with contextlib.suppress(UsageError):  # an unknown optimizer is refused by ``parse``
        before, now = (
            {field.name for field in dataclasses.fields(settings_of_algorithm(table))}
            for table in (es, {**es, "optimizer": optimizer})
        )
        for key in before - now:
            es.pop(key, None)


# settings on which others depend, in the order in which they are set, and what then drops the others from the section
DROPS: dict[tuple[str, ...], Callable[[dict[str, Any], Any], None]] = {
    ("policy", "kind"): _drop_settings_of_other_kinds,
    ("es", "algorithm"): _drop_settings_of_other_algorithms,
    ("es", "optimizer"): _drop_settings_of_other_optimizers,
}


def copied(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested tables."""
    return {
        key: copied(value) if isinstance(value, Mapping) else value for key, value in table.items()
    }
