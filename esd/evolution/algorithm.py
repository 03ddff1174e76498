"""What an algorithm is to the rest of esd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AlgorithmKind:
    """One line of ``config.kinds.ALGORITHMS``.

    Attributes:
        settings: what [es] may hold with it, a subclass of ``config.settings.EvolutionSettings``.
        build: makes the algorithm from (settings, seed, population, reduction over variants).
    """

    settings: type[Any]
    build: Callable[[Any, int, int, str], Any]
