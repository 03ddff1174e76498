"""How many processes a launcher says it started."""

from __future__ import annotations

import pytest

from esd.mpi.launch import launched_by_srun, launched_processes


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),  # Open MPI's mpirun
        ({"PMI_SIZE": "3", "PMI_RANK": "1"}, 3),  # MPICH's and Intel's mpiexec
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, 2),  # srun
        # mpirun inside of a SLURM job: its daemons are srun's tasks, one per node
        ({"SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "64"}, 64),
        ({"SLURM_NTASKS": "8"}, 1),  # the batch script itself is one process
        ({"PMI_SIZE": "many"}, 1),
    ],
)
def test_the_launchers_own_word_is_taken(environment: dict[str, str], count: int) -> None:
    assert launched_processes(environment) == count


def test_srun_is_told_from_an_mpirun_inside_of_its_job() -> None:
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
    assert launched_by_srun(step)
    assert not launched_by_srun({**step, "OMPI_COMM_WORLD_SIZE": "4"})
    assert not launched_by_srun({**step, "PMI_SIZE": "2"})  # srun --mpi=pmi2 speaks to the library
    assert not launched_by_srun({"SLURM_NTASKS": "2"})
    assert not launched_by_srun({})
