"""A field of the config with its documentation and its check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

SECOND_VERSION = 2  # of the config; the first is that of journals of version 2


def setting(
    default: Any,
    text: str,
    *,
    expected: str = "",
    check: Callable[[Any], bool] | None = None,
    choices: Sequence[str] | None = None,
    since: int = 1,
) -> Any:
    """A field with its documentation and its check.

    Args:
        default: its value where a config doesn't name it.
        text: what it is, for ``esd list settings``.
        expected: what the check asks for, in words.
        check: whether a value of the right type is allowed.
        choices: the allowed values, in place of ``expected`` and ``check``.
        since: the version of the config that it came with. At its default a setting that came later is no part of a
            run's identity: runs that were begun without it go on.
    """
    if choices is not None:
        check, expected = (lambda value: value in choices), "one of " + ", ".join(choices)
    metadata = {
        "text": text,
        "expected": expected,
        "check": check,
        "since": since,
        "choices": tuple(choices or ()),
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _up_to_a_million(value: Any) -> bool:
    return bool(1 <= value <= 1_000_000)


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _share(value: float) -> bool:
    return 0 < value <= 1


def _below_one(value: float) -> bool:
    return 0 <= value < 1


MILLION: dict[str, Any] = {"expected": "1 to 1,000,000", "check": _up_to_a_million}
POSITIVE: dict[str, Any] = {"expected": "more than 0", "check": _positive}
NOT_NEGATIVE: dict[str, Any] = {"expected": "0 or more", "check": _not_negative}
SHARE: dict[str, Any] = {"expected": "more than 0 and at most 1", "check": _share}
BELOW_ONE: dict[str, Any] = {"expected": "0 or more and below 1", "check": _below_one}
