"""How this process was started: alone, or as one of many by an MPI launcher.

Nothing here imports MPI: a single process never needs it, and the wheel's initialization takes a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

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


def launched_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Which of them this process is; 0 without a launcher."""
    for name in _RANK_VARIABLES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 0


def launched_processes(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher says it started; 1 without a launcher."""
    for name in _SIZE_VARIABLES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 1


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process, be it the only one."""
    return any(environment.get(name, "").isdigit() for name in _SIZE_VARIABLES)
