"""How this process was started: alone, or as one of many by an MPI launcher.

Nothing here imports MPI: a single process never needs it, and the wheel's initialization takes a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence

# Who sets what: Open MPI and its PRRTE; MPICH, Intel MPI and other Hydra launchers; MVAPICH; Cray PALS; Flux; and
# SLURM's srun. mpirun inside of a SLURM job starts its daemons by srun, so SLURM's own count comes last.
_SIZE_VARIABLES = (
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "PALS_SIZE",
    "FLUX_JOB_SIZE",
    "SLURM_STEP_NUM_TASKS",
)
_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "FLUX_TASK_RANK",
    "SLURM_PROCID",
)
_LOCAL_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "FLUX_TASK_LOCAL_ID",
    "SLURM_LOCALID",
)


def _set_one(names: Sequence[str], environment: Mapping[str, str]) -> str:
    """The first of the variables that holds a number; empty if none does."""
    return next((name for name in names if environment.get(name, "").isdigit()), "")


def launched_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Which of them this process is; 0 without a launcher."""
    name = _set_one(_RANK_VARIABLES, environment)
    return int(environment[name]) if name else 0


def launched_local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Which of the processes on this machine this one is; its rank if the launcher doesn't say."""
    name = _set_one(_LOCAL_RANK_VARIABLES, environment)
    return int(environment[name]) if name else launched_rank(environment)


def launched_processes(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher says it started; 1 without a launcher."""
    name = _set_one(_SIZE_VARIABLES, environment)
    return int(environment[name]) if name else 1


def launched_by_srun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether it was SLURM's srun that started this process, and no mpirun."""
    return _set_one(_SIZE_VARIABLES, environment).startswith("SLURM_")


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process, be it the only one."""
    return bool(_set_one(_SIZE_VARIABLES, environment))


def survives_losses(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether mpirun was started with ``--with-ft ulfm``, so that the others can go on when a rank dies."""
    return environment.get("OMPI_MCA_mpi_ft_enable", "").lower() in ("1", "true")


# set by ``esd launch``: what its processes say on stderr between these marks is for it alone
SUPERVISED = "ESD_LAUNCH"


def belongs_to_a_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several, or ``esd launch`` has started it: it makes no sense without the others.

    A shell inside of a SLURM job may look like a job of one process.
    """
    return SUPERVISED in environment or launched_processes(environment) > 1


def word_for_supervisor(word: str, token: str) -> str:
    """A word as it stands on stderr."""
    return f"<esd launch {token} {word}>"


def report_to_supervisor(word: str) -> None:
    """Tell ``esd launch``, if it has started this process.

    Args:
        word: "started" when MPI is initialized on all ranks, "watched" when they watch each other, "done", or "final"
            if the command would fail again.
    """
    token = os.environ.get(SUPERVISED)
    if token:
        os.write(2, f"{word_for_supervisor(word, token)}\n".encode())


# what asks a training to stop; without a handler it would kill a process that is still importing
_HELD = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")


def begin_process() -> None:
    """What a process of the command line does first, before imports that take a second.

    If it belongs to a job it dies with its launcher, also when that is dead already. Signals that ask to stop are held
    back until somebody handles them (``release_signals``, or ``StopRequest``).
    """
    if belongs_to_a_job():
        die_with_parent()
        if _nobody_listens():  # it died before that
            os._exit(1)
    if hasattr(signal, "pthread_sigmask"):
        held = {getattr(signal, name) for name in _HELD}
        signal.pthread_sigmask(signal.SIG_BLOCK, held)


def release_signals() -> None:
    """Let them through: nobody here handles them."""
    if hasattr(signal, "pthread_sigmask"):
        held = {getattr(signal, name) for name in _HELD}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def _nobody_listens() -> bool:
    """Whether stdout and stderr are pipes that nobody reads any more, as those are that a dead launcher has made."""
    if not hasattr(select, "poll"):
        return False
    listening = select.poll()
    for descriptor in (1, 2):
        listening.register(descriptor, 0)  # errors are reported in any case
    broken = select.POLLERR | select.POLLHUP
    return sum(bool(events & broken) for _, events in listening.poll(0)) == 2


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when the one that started it dies, so that an aborted job leaves no orphans.

    Args:
        parent: the process that started this one; if it is dead already, this one ends at once.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os._exit(1)
