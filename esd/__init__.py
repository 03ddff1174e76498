"""esd: distributed evolution strategies for networks that keep learning after training.

The names below are the public Python API. Each is imported when it is first used, so ``import esd`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
import random
from typing import TYPE_CHECKING, Any

# before numba is imported, by whichever module: it would color its messages by colorama, where that is installed, which
# writes to a terminal's stdout when Python ends
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")

if TYPE_CHECKING:
    from esd.api.evolution import Evolution
    from esd.api.policy import Policy
    from esd.api.run import Run
    from esd.api.training import generations, resume, train
    from esd.errors import EsdError, RunError, UsageError

__version__ = "0.1.0"

__all__ = [
    "EsdError",
    "Evolution",
    "Policy",
    "Run",
    "RunError",
    "UsageError",
    "__version__",
    "generations",
    "resume",
    "train",
]

_PLACES = {
    "EsdError": "esd.errors",
    "Evolution": "esd.api.evolution",
    "Policy": "esd.api.policy",
    "Run": "esd.api.run",
    "RunError": "esd.errors",
    "UsageError": "esd.errors",
    "generations": "esd.api.training",
    "resume": "esd.api.training",
    "train": "esd.api.training",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'esd' has no attribute {name!r}")
    drawn = random.getstate()
    try:
        return getattr(importlib.import_module(_PLACES[name]), name)
    finally:
        random.setstate(drawn)  # Rich draws from the caller's generator when it is imported


def __dir__() -> list[str]:
    return __all__
