"""Keyword arguments of a config, for one call of a user's code."""

from __future__ import annotations

from typing import Any


def fresh(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments for one call: it may change lists and dicts in them, and no later call shall see that."""
    return {key: _fresh(value) for key, value in kwargs.items()}


def _fresh(value: Any) -> Any:
    if isinstance(value, dict):
        return fresh(value)
    return [_fresh(item) for item in value] if isinstance(value, list) else value
