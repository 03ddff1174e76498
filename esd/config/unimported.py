"""[es] of a run whose algorithm or optimizer is not esd's, read without importing it: to be looked at only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esd.config.installed import is_installed
from esd.config.references import KINDS, Reference
from esd.config.settings import EvolutionSettings


@dataclass(frozen=True)
class Unimported:
    """Settings some of whose class is not known: no algorithm can be made of them.

    Attributes:
        others: keys of [es] that the algorithm or the optimizer may have declared, as TOML has them.
    """

    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def is_foreign(key: str, es: Mapping[str, Any]) -> bool:
    """Whether ``es.algorithm`` or ``es.optimizer`` names what is neither esd's nor offered by a package here."""
    name = es.get(key)
    if not isinstance(name, str):
        return False
    if is_of_a_missing_package(f"es.{key}", name):
        return True
    module = Reference(f"es.{key}", name).module
    return bool(module) and (":" in name or not is_installed(module))


def is_of_a_missing_package(setting: str, name: Any) -> bool:
    """Whether a run's setting has a plain name that means nothing here, as that of another machine's package."""
    return isinstance(name, str) and ":" not in name and name not in KINDS[setting].names()


def without_class(known: EvolutionSettings, others: Mapping[str, Any]) -> EvolutionSettings:
    """Settings of which only a part has a known class.

    Args:
        known: that part.
        others: the other keys of [es], as TOML has them.
    """
    names = [field.name for field in dataclasses.fields(known)]
    made: Any = dataclasses.make_dataclass(
        type(known).__name__, (), bases=(type(known), Unimported), frozen=True
    )
    settings: EvolutionSettings = made(
        **{name: getattr(known, name) for name in names}, others=dict(others)
    )
    return settings
