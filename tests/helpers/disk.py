"""What of a run is on disk, where a test asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def at_every_sync(patch: pytest.MonkeyPatch, look: Callable[[Path], object]) -> None:
    """Call ``look`` with every file and folder as it is put on disk (fsync)."""
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        look(Path(f"/proc/self/fd/{descriptor}").readlink())

    patch.setattr(os, "fsync", seen)
