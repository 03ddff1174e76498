"""Settings given as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w

from esd.errors import UsageError


def as_texts(flat: Mapping[str, Any]) -> list[str]:
    """Settings by dotted name, as the command line has them: ``key=value`` with a value in TOML.

    Raises:
        UsageError: for a value that TOML doesn't have.
    """
    # what other settings there are depends on these, so they come first
    first = ("policy.kind", "es.algorithm")
    ordered = sorted(flat, key=lambda key: key not in first)
    return [f"{key}={_toml(key, flat[key])}" for key in ordered]


def _toml(key: str, value: Any) -> str:
    try:
        return tomli_w.dumps({"value": value}).partition("=")[2].strip()
    except TypeError as error:
        raise UsageError(
            f"{key} = {value!r}: expected text, a number, true or false, or a list or dict of these"
        ) from error
