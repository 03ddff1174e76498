"""Whether a library fits the launcher that has started a process; nothing here starts one."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.mpi import library
from esd.mpi.launch import launched_local_rank
from esd.mpi.library import launcher_kind, why_not

OPEN_MPI, MPICH, INTEL = (
    "Open MPI v5.0.11, package: …",
    "MPICH Version:      5.0.2\nMPICH ABI: …",
    "Intel(R) MPI Library 2021.18.1 for Linux* OS",
)
BY_OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
BY_HYDRA = {"PMI_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "version", "fits"),
    [
        (BY_OPEN_MPI, OPEN_MPI, True),
        (BY_OPEN_MPI, MPICH, False),
        (BY_OPEN_MPI, INTEL, False),
        (BY_HYDRA, MPICH, True),
        (BY_HYDRA, INTEL, True),
        (BY_HYDRA, OPEN_MPI, False),
        # a batch system that speaks PMI itself, which an older Open MPI understands
        ({**BY_HYDRA, "SLURM_PROCID": "0"}, OPEN_MPI, True),
        ({"SLURM_STEP_NUM_TASKS": "2"}, MPICH, True),
        # Open MPI, or MPICH, under a vendor's own name
        (BY_OPEN_MPI, "Vendor's MPI 10.4", True),
        (BY_HYDRA, "Vendor's MPI 10.4", True),
    ],
)
def test_a_library_of_another_kind_is_refused_before_it_starts(
    environment: dict[str, str], version: str, fits: bool
) -> None:
    reason = why_not(launcher_kind(environment), version, environment)
    assert (reason == "") == fits, reason
    assert fits or ("esd launch" in reason and "\n" not in reason)


def test_too_little_shared_memory_is_said_with_the_option_that_gives_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"/dev/shm": 16_777_216, "/mine": 16_777_217}
    monkeypatch.setattr(library, "free_bytes", free.get)

    def reason(**environment: str) -> str:
        return why_not(library.OPEN_MPI, OPEN_MPI, {**BY_OPEN_MPI, **environment})

    assert "--shm-size=64m" in reason()
    assert reason(OMPI_MCA_btl_sm_backing_directory="/mine") == ""
    assert reason(OMPI_COMM_WORLD_LOCAL_SIZE="1") == ""
    assert reason(OMPI_MCA_btl="self,tcp") == ""
    free["/dev/shm"] += 1
    assert reason() == ""


def test_what_is_free_is_asked_of_the_file_system(tmp_path: Path) -> None:
    free = library.free_bytes(str(tmp_path))
    assert free is not None
    assert free > 0
    assert library.free_bytes(str(tmp_path / "missing")) is None


def test_the_first_rank_of_a_machine_is_known_or_taken_to_be_the_first_of_all() -> None:
    assert (
        launched_local_rank({"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}) == 1
    )
    assert launched_local_rank({"PMI_RANK": "4", "MPI_LOCALRANKID": "0"}) == 0
    assert launched_local_rank({"PMI_RANK": "4"}) == 4
    assert launched_local_rank({}) == 0
