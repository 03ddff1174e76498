"""What [es] may hold, which depends on the algorithm and the optimizer in it."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from esd.config.kinds import ALGORITHMS, OPTIMIZERS
from esd.config.settings import EvolutionSettings
from esd.errors import UsageError, shown


def settings_of_algorithm(table: Mapping[str, Any]) -> type[EvolutionSettings]:
    """What [es] may hold, by the algorithm and the optimizer in it.

    Raises:
        UsageError: if there is no such algorithm or optimizer.
    """
    name = table.get("algorithm", "openai_es")
    settings: Any = getattr(ALGORITHMS.find(_text(name)), "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, EvolutionSettings)):
        raise UsageError(
            f"es.algorithm = {shown(name)}: expected an AlgorithmKind of esd.evolution.algorithm, whose settings are a "
            "subclass of EvolutionSettings"
        )
    default = next((f.default for f in dataclasses.fields(settings) if f.name == "optimizer"), None)
    optimizer = table.get("optimizer", default)
    if default is None:
        return settings
    kind = OPTIMIZERS.find(_text(optimizer))
    has_fields = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    base: Any = settings  # which mypy doesn't know to be hashable
    return _with_fields(base, kind) if has_fields else settings


@functools.cache
def _with_fields(settings: type[Any], optimizer: type[Any]) -> type[EvolutionSettings]:
    """Settings of an algorithm with those of an optimizer; what both have is one setting."""
    known = {field.name for field in dataclasses.fields(settings)}
    fields = [field for field in dataclasses.fields(optimizer) if field.name not in known]
    if not fields:
        return settings
    without = [field.name for field in fields if field.default is dataclasses.MISSING]
    if without:
        raise UsageError(
            f"es.optimizer: no default for {', '.join(without)} of {optimizer}; give one with setting(…) of "
            "esd.config.fields"
        )
    hints = typing.get_type_hints(optimizer)
    own: list[Any] = [
        (f.name, hints[f.name], dataclasses.field(default=f.default, metadata=f.metadata))
        for f in fields
    ]
    made: Any = dataclasses.make_dataclass(settings.__name__, own, bases=(settings,), frozen=True)
    return typing.cast(type[EvolutionSettings], made)


def _text(name: Any) -> str:
    return name if isinstance(name, str) else repr(name)
