"""What the Reformer remembers with: LSH attention and reversible blocks (docs/attention.md).

The names below are for programs of one's own, too; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esd.attention.hashing import Hash as Hash
    from esd.attention.hashing import angular as angular
    from esd.attention.hashing import one_bucket as one_bucket
    from esd.attention.hashing import sampled_bits as sampled_bits
    from esd.attention.hashing import signs as signs
    from esd.attention.reversible import Lifting as Lifting
    from esd.attention.reversible_torch import ReversibleSequence as ReversibleSequence
    from esd.attention.sequence import Attention as Attention
    from esd.attention.sequence import attend as attend
    from esd.attention.stream import Limits as Limits
    from esd.attention.stream import Stream as Stream
    from esd.attention.telemetry import Telemetry as Telemetry
    from esd.attention.telemetry import measure as measure

_PLACES = {
    "hashing": ("Hash", "angular", "one_bucket", "sampled_bits", "signs"),
    "reversible": ("Lifting",),
    "reversible_torch": ("ReversibleSequence",),
    "sequence": ("Attention", "attend"),
    "stream": ("Limits", "Stream"),
    "telemetry": ("Telemetry", "measure"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}
__all__ = sorted(_MODULES)  # known when it is imported


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: kernels take a while, and torch need not be there."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names above, for completion."""
    return __all__
