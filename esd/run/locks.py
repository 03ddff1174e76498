"""Locks of a run's folder, and whether they keep out trainings on other machines."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# by type of file system, the mount options with which flock holds on one machine only; "" for always
LOCAL_ONLY = {
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
    "lustre": ("localflock",),
    "fuse.sshfs": ("",),
    "fuse.s3fs": ("",),
    "fuse.gcsfuse": ("",),
    "fuse.rclone": ("",),
    "9p": ("",),
}


def taken(descriptor: int) -> bool:
    """Take the lock of an open file; False if its file system has no locks.

    Raises:
        BlockingIOError: if another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def weakness(folder: Path, locked: bool, mounts: Path = MOUNTS) -> str:
    """In a line, why a second training in a folder might not be refused; empty if it is.

    Args:
        folder: that exists.
        locked: its lock could be taken.
        mounts: what this system has mounted, as in ``/proc/self/mountinfo``.
    """
    if not locked:
        why = "its file system has no locks (flock), so esd can't prevent a second training run in this folder"
    else:
        kind, options = _mount(folder, mounts)
        local = [o for o in LOCAL_ONLY.get(kind, ()) if not o or o in options]
        if not local:
            return ""
        with_option = f" with {local[0]}" if local[0] else ""
        why = (
            f"its file system ({kind}{with_option}) keeps locks only on one machine, so esd can't prevent a second "
            "training run in this folder on another machine"
        )
    return f"{folder}: {why}; make sure that only one is running"


def kind_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a folder is on, such as ext4; empty where that isn't known."""
    return _mount(folder, mounts)[0]


def _mount(folder: Path, mounts: Path) -> tuple[str, set[str]]:
    """The type and the options of the file system that a folder is on; "" where that can't be found out."""
    path = os.path.realpath(folder)
    found: tuple[str, set[str]] = ("", set())
    longest = -1
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields, kinds = mount.split(), rest.split()
        if len(fields) < 6 or len(kinds) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # the last of several on one point hides the others
            longest = len(point)
            found = kinds[0], {*fields[5].split(","), *kinds[2].split(",")}
    return found
