"""What is said of MPI, on machines made up for it."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from esd.doctor import mpi as doctor
from esd.doctor.machine import Check, Verdict

OPEN_MPI, MPICH = "Open MPI v5.0.11, package: …", "MPICH Version:      5.0.2"


def mpirun(folder: Path, script: str, version: str = "mpirun (Open MPI) 5.0.11") -> None:
    """Put a launcher of one's own at the front of the PATH."""
    program = folder / "mpirun"
    asked = f'[ "$1" = --version ] && echo "{version}" && exit 0'
    program.write_text(f"#!/bin/sh\n{asked}\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def launcher(library: str = "") -> dict[str, Check]:
    """The lines by name."""
    return {check.name: check for check in doctor.launcher(library)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a machine of two cores."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo ranks 1; echo ranks 1", "did not find each other"),
        ("echo mpirun has detected an attempt to run as root >&2; exit 1", "ALLOW_RUN_AS_ROOT=1"),
        ("echo There are not enough slots available >&2; exit 1", "--oversubscribe"),
        ("echo not enough space for /dev/shm/x >&2; exit 14", "is too small"),
        ("echo something else >&2; echo ------ >&2; exit 7", "code 7: something else"),
    ],
)
def test_a_launcher_whose_ranks_dont_meet_has_failed(folder: Path, script: str, told: str) -> None:
    mpirun(folder, script)
    check = launcher()["mpirun"]
    assert check.state is Verdict.FAILED
    assert told in check.text


def test_a_launcher_without_a_home_fails_with_what_to_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpirun(folder, "echo opal >&2; exit 1")
    monkeypatch.delenv("HOME", raising=False)
    assert "export HOME" in launcher()["mpirun"].text
    assert doctor.home().state is Verdict.NOTE
    monkeypatch.setenv("HOME", "/home/me")
    assert doctor.home().state is Verdict.OK


def test_a_launcher_whose_ranks_meet_is_fine_and_a_missing_one_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert launcher()["mpirun"].state is Verdict.NOTE
    mpirun(folder, "echo ranks 2; echo ranks 2")
    assert launcher()["mpirun"].state is Verdict.OK


def test_a_launcher_that_hangs_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MPIRUN_SECONDS", 0.2)
    mpirun(folder, "exec /bin/sleep 60")
    assert "nothing within" in launcher()["mpirun"].text


@pytest.mark.parametrize(
    ("version", "library", "told"),
    [
        ("mpirun (Open MPI) 5.0.11", MPICH, "a launcher of Open MPI, but mpi4py uses MPICH Version: 5.0.2:"),
        ("HYDRA build details:", OPEN_MPI, "a launcher of MPICH, but mpi4py uses Open MPI v5.0.11:"),
    ],
)  # fmt: skip
def test_a_launcher_of_another_kind_than_the_library_is_named_and_not_started(
    folder: Path, version: str, library: str, told: str
) -> None:
    mpirun(folder, f"echo ranks 2; echo ranks 2; touch {folder}/started", version)
    (check,) = doctor.launcher(library)
    assert check.state is Verdict.FAILED
    assert told in check.text
    assert "esd launch" in check.text
    assert not (folder / "started").exists()


def test_fault_tolerance_is_told_by_ranks_that_shrink(folder: Path) -> None:
    meet = "echo ranks 2; echo ranks 2"
    mpirun(folder, f'[ "$1" = --with-ft ] && {{ {meet}; exit 0; }}; exit 1')
    assert launcher()["lost ranks"].state is Verdict.OK
    mpirun(folder, f'[ "$1" = --with-ft ] && exit 1; {meet}')
    checks = launcher()
    assert checks["mpirun"].state is Verdict.OK
    assert checks["lost ranks"].state is Verdict.NOTE
    mpirun(folder, f'[ "$1" = --with-ft ] && touch {folder}/asked; {meet}', "HYDRA")
    assert launcher()["lost ranks"].state is Verdict.NOTE
    assert not (folder / "asked").exists()


@pytest.mark.parametrize(("slots", "state"), [(1, Verdict.NOTE), (2, Verdict.OK)])
def test_fewer_slots_than_cores_are_noted(folder: Path, slots: int, state: Verdict) -> None:
    mpirun(folder, f"echo '    host: slots={slots} max_slots=0'; echo ranks 2; echo ranks 2")
    check = launcher()["slots"]
    assert (check.state, f"{slots} on this" in check.text) == (state, True)
    assert ("--oversubscribe" in check.text) or state is Verdict.OK


@pytest.mark.parametrize("missing", [(), doctor.ROOT_VARIABLES, doctor.ROOT_VARIABLES[1:]])
def test_root_is_told_which_variables_are_missing(
    missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in doctor.ROOT_VARIABLES:
        monkeypatch.setenv(name, "1")
    for name in missing:
        monkeypatch.delenv(name)
    check = doctor.root()
    assert check.state is (Verdict.NOTE if missing else Verdict.OK)
    assert [name for name in doctor.ROOT_VARIABLES if f"{name}=1" in check.text] == list(missing)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert doctor.root().state is Verdict.OK


def test_a_machine_without_a_place_for_temporary_files_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor.temporary_files().state is Verdict.OK

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert "TMPDIR" in doctor.temporary_files().text


@pytest.mark.parametrize(
    ("free", "state"),
    [
        (1 << 24, Verdict.FAILED),
        ((1 << 24) + 4096, Verdict.OK),
        (None, Verdict.NOTE),
    ],
)
def test_shared_memory_too_small_for_a_segment_has_failed(
    free: int | None, state: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(doctor, "free_bytes", lambda folder: free)
    check = next(doctor.shared_memory())
    assert check.state is state
    assert ("--shm-size" in check.text) == (state is Verdict.FAILED)


def test_segments_of_dead_jobs_are_counted_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    assert [check.state for check in doctor.shared_memory()] == [Verdict.OK, Verdict.OK]
    used, dead = (tmp_path / f"sm_segment.host.{os.geteuid()}.12ab0000.{rank}" for rank in (0, 1))
    for path in (used, dead):
        path.write_bytes(b"x" * 8192)
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert [path for path, _ in doctor.stale_segments()] == [dead]
        check = list(doctor.shared_memory())[1]
    assert check.state is Verdict.NOTE
    assert check.text.startswith("1 in ")
    assert f"rm {tmp_path}/sm_segment.*.{os.geteuid()}.*" in check.text


@pytest.mark.parametrize(
    ("script", "state", "told"),
    [
        ("echo MPI plugin types are...; echo pmix; echo pmix_v4", Verdict.OK, "--mpi=pmix"),
        ("echo none; echo pmi2 >&2", Verdict.NOTE, "--mpi=pmi2"),
        ("echo none", Verdict.NOTE, "has no PMIx"),
        ("echo srun: error: no >&2; exit 1", Verdict.NOTE, "srun: error: no"),
        ("echo srun: error: fetch_config: DNS >&2; exit 1", Verdict.NOTE, "SLURM_CONF"),
    ],
)
def test_what_srun_can_start_is_told(folder: Path, script: str, state: Verdict, told: str) -> None:
    program = folder / "srun"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    check = doctor.slurm()
    assert check.state is state
    assert told in check.text
