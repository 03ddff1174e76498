"""Where a run came from: versions, commit, machine, command."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from esd.errors import UsageError
from esd.reading import MB, read_json

PACKAGES = (
    "esd-mpi",
    "numpy",
    "numba",
    "gymnasium",
    "mujoco",
    "box2d",
    "torch",
    "mpi4py",
    "safetensors",
)


def collect(ranks: int) -> dict[str, Any]:
    """What is worth knowing later, as JSON can hold it."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "ranks": ranks,
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "git_commit": _commit(),
        "mpi_library": mpi_library(),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The training calls in provenance.json, oldest first; none without the file.

    Raises:
        UsageError: if it is damaged.
    """
    try:
        calls = read_json(path, 100 * MB)
    except FileNotFoundError:
        return []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UsageError(f"{path}: not a list of training calls")
    return calls


def version(package: str) -> str | None:
    """Of an installed distribution; None if it isn't."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source that runs, if it runs from a checkout."""
    source = Path(__file__).parent
    try:
        git = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
        output = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip() or None


def mpi_library() -> str | None:
    """The MPI library in use, in its own words; None in a process that has not loaded one."""
    mpi = sys.modules.get("mpi4py.MPI")
    return None if mpi is None else str(mpi.Get_library_version()).strip("\0").splitlines()[0]
