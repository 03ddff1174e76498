"""A field of the config with its documentation and its check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


def setting(
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
