"""Is the file system of a run's folder fit for it: can it be written, does it lock, and what kind is it?"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from esd.doctor.machine import Check, Verdict, failed, note, ok
from esd.run import locks

SLOW_SYNC_SECONDS = 0.25  # a run syncs its journal once a second
_PROBE = ".esd-doctor"
# what a file system of a kind means for a run that is kept there
REMARKS = {
    "tmpfs": "memory: its files are lost when the machine, the container or the job ends. Use a folder on a disk "
             "with --run",
    "ramfs": "memory: its files are lost when the machine ends. Use a folder on a disk with --run",
    "overlay": "the container's own layer: its files are lost with the container. Mount a volume, and use it with "
               "--run",
    "nfs": "a network file system: a server that does not respond delays a run",
    "nfs4": "a network file system: a server that does not respond delays a run",
    "lustre": "a parallel file system, slow with small files: one run writes a few each second",
    "gpfs": "a parallel file system, slow with small files: one run writes a few each second",
    "beegfs": "a parallel file system, slow with small files: one run writes a few each second",
}  # fmt: skip
LOST = ("tmpfs", "ramfs", "overlay")  # files there don't last


def is_run(subject: str | None) -> bool:
    """Whether a folder is examined, in which a run has to go on."""
    return subject is not None and Path(subject).is_dir()


def where_runs_are(subject: str | None) -> Path:
    """The folder to examine: a run, or where runs go by default, or the first above it that is there."""
    place = Path(subject) if subject is not None and is_run(subject) else Path("runs")
    place = place.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def run_folder(folder: Path, needed: bool, mounts: Path = locks.MOUNTS) -> Iterator[Check]:
    """Examine the file system of a folder, one line after the other; nothing remains in it.

    Args:
        folder: that is there.
        needed: a run goes on in it; otherwise another folder may do.
        mounts: what this system has mounted.
    """
    kind = locks.kind_of(folder, mounts)
    remark = REMARKS.get(kind, "")
    text = f"{folder} is on {kind or 'a file system of unknown kind'}"
    yield note("file system", f"{text}, {remark}") if remark else ok("file system", text)
    probe = folder / f"{_PROBE}-{os.getpid()}"
    try:
        yield _written(probe)
        yield _locked(folder, probe, mounts)
    except OSError as error:
        fix = {
            errno.EROFS: "the file system is read-only",
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "your quota is used up",
        }.get(error.errno or 0, str(error.strerror))
        say = failed if needed else note
        yield say("write test", f"{folder}: {fix}; use another folder with --run")
    finally:
        for path in (probe, _renamed(probe)):
            with contextlib.suppress(OSError):
                path.unlink()


def _renamed(probe: Path) -> Path:
    return probe.with_name(f"{probe.name}.new")


def _written(probe: Path) -> Check:
    """Create, refuse to create again, sync, rename: what a run's files need.

    Raises:
        OSError: if one of them is refused.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    descriptor = os.open(probe, flags, 0o600)
    try:
        os.write(descriptor, b"esd doctor\n")
        began = time.perf_counter()
        os.fsync(descriptor)
        seconds = time.perf_counter() - began
    finally:
        os.close(descriptor)
    try:
        os.close(os.open(probe, flags, 0o600))
    except FileExistsError:
        pass
    else:
        return failed(
            "write test",
            f"{probe.parent}: its file system does not support exclusive creation (O_EXCL), so files could get "
            "lost; use another folder with --run",
        )
    probe.replace(_renamed(probe))
    _renamed(probe).replace(probe)
    figures = {"sync_milliseconds": 1000 * seconds}
    text = f"files can be created, renamed and synced ({1000 * seconds:.3g} ms)"
    if seconds > SLOW_SYNC_SECONDS:
        text += ": slow, so short generations have to wait for it; use a folder on a faster disk with --run"
        return Check("write test", Verdict.NOTE, text, figures)
    return Check("write test", Verdict.OK, text, figures)


def _locked(folder: Path, probe: Path, mounts: Path) -> Check:
    """Whether a lock keeps out a second process, here and on other machines."""
    with probe.open("r+b") as first, probe.open("r+b") as second:
        has_locks = locks.taken(first.fileno())
        if has_locks:
            try:
                fcntl.flock(second.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                pass
            else:
                has_locks = False
    weakness = locks.weakness(folder, has_locks, mounts)
    return note("locks", weakness) if weakness else ok("locks", "lock against a second training")
