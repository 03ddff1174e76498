"""Open MPI's segments of dead jobs are swept; those of living ones, young ones and whatever else is there are not."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from esd.mpi.segments import sweep

NAMES = (
    "sm_segment.host.0.1a2b0001.0",
    "sm_segment.host.0.1a2b0001.1",
    "sm_segment.my.host.0.99990001.12",
)


def made(place: Path, name: str, age: float) -> Path:
    path = place / name
    path.write_bytes(bytes(4096))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_only_old_segments_that_nobody_has_mapped_are_removed(tmp_path: Path) -> None:
    dead, living, young = (made(tmp_path, n, a) for n, a in zip(NAMES, (900, 900, 10), strict=True))
    others = [made(tmp_path, name, 900) for name in ("sm_segment.txt", "esd-faults", "psm2_shm.1")]
    with living.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        assert sweep(tmp_path) == [dead.name]
    assert sorted(tmp_path.iterdir()) == sorted([living, young, *others])
    assert sweep(tmp_path) == [living.name]


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == []
