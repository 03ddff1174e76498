"""Settings given as Python values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tomli_w

from esd.config.settings import Config
from esd.config.tables import flatten
from esd.errors import UsageError

LARGEST_SEED = 2**64 - 1
BARE_KEY = re.compile("[A-Za-z0-9_-]+")


def by_dotted_name(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings, nested or by dotted name, as one table: ``es.sigma`` and so on. An empty section changes nothing.

    In a table that is a setting itself, such as ``env.kwargs``, keys are names as they stand: if one has a dot, the
    table stays whole, and replaces what an experiment has there.

    Raises:
        UsageError: if they are not a table.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(f"settings = {settings!r}: expected a dict, such as {{'es.sigma': 0.1}}")
    flat = flatten(settings or {}, stays_whole=_has_dots)
    parts = [{key: value} for key, value in (settings or {}).items()]
    names = [name for part in parts for name in flatten(part, stays_whole=_has_dots)]
    if len(names) > len(flat):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            f"settings: {twice} is given twice, by its dotted name and in {twice.partition('.')[0]!r}"
        )
    empty = [key for key, value in flat.items() if isinstance(value, Mapping) and _is_section(key)]
    return {key: value for key, value in flat.items() if key not in empty}


def _has_dots(name: str, table: Mapping[str, Any]) -> bool:
    """Whether a table that is a setting itself has keys with dots: these are no dotted names."""
    return "." in name and any("." in str(key) for key in table)


def _is_section(key: str) -> bool:
    """Whether a name is that of a part of the settings, such as ``policy``, and not of a setting."""
    return dataclasses.is_dataclass(getattr(Config(), key, None))


def plain(value: Any) -> Any:
    """The Python values of numpy's: seeds and settings often come out of arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def whole_number(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """An argument that has to be a whole number within limits.

    Raises:
        UsageError: if it is not.
    """
    number = plain(value)
    fits = isinstance(number, int) and not isinstance(number, bool)
    if not fits or number < lowest or (highest is not None and number > highest):
        limits = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise UsageError(f"{name} = {value!r}: expected a whole number {limits}")
    return int(number)


def as_texts(flat: Mapping[str, Any]) -> list[str]:
    """Settings by dotted name, as the command line has them: ``key=value`` with a value in TOML.

    Raises:
        UsageError: for a value that TOML doesn't have.
    """
    for key in flat:
        if "=" in key:
            raise UsageError(f"{key!r}: expected the name of a setting, without =")
    # what other settings there are depends on these, so they come first
    first = ("policy.kind", "es.algorithm")
    ordered = sorted(flat, key=lambda key: key not in first)
    return [f"{key}={_toml(key, flat[key])}" for key in ordered]


def _toml(key: str, value: Any) -> str:
    try:
        return _inline(plain(value))
    except TypeError as error:
        raise UsageError(
            f"{key} = {value!r}: expected a string, a number, true or false, or a list or dict of these"
        ) from error


def _inline(value: Any) -> str:
    """A value as TOML in one line; tomli_w gives long ones several.

    Raises:
        TypeError: if TOML has no such value.
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(k)} = {_inline(item)}' for k, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _inline(key)
