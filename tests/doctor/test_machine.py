"""What is said of a machine, on machines made up for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from esd.doctor import machine as doctor
from esd.doctor.machine import Verdict
from esd.errors import EXTRAS
from esd.kernels import COMPILER
from esd.mpi.memory import memory_limit


def control_group(root: Path, line: str, **files: str) -> None:
    """Make up the files of control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{line}\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_the_tightest_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control_group(
        tmp_path,
        "0::/a/b",
        a__b__cpu_dot_max="max 100000",
        a__cpu_dot_max="150000 100000",
        a__b__memory_dot_max="max",
        a__memory_dot_max="2000000000",
        memory_dot_max="9000000000",
    )
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4)
    assert doctor.cgroup_cores() == 1.5
    assert memory_limit(tmp_path) == 2_000_000_000
    assert "at most 1 ranks" in doctor.cores().text
    assert doctor.cores().state is Verdict.NOTE
    assert "limited by a control group to 2.0 GB" in doctor.memory().text


def test_control_groups_of_the_old_kind_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control_group(
        tmp_path,
        "4:cpu,cpuacct:/job\n3:memory:/job",
        cpu__job__cpu_dot_cfs_quota_us="200000",
        cpu__job__cpu_dot_cfs_period_us="100000",
        cpu__cpu_dot_cfs_quota_us="-1",
        cpu__cpu_dot_cfs_period_us="100000",
        memory__job__memory_dot_limit_in_bytes="3000000000",
    )
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor.cgroup_cores() == 2.0
    assert memory_limit(tmp_path) == 3_000_000_000


def test_without_control_groups_there_is_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor.cgroup_cores() is None
    assert memory_limit(tmp_path) is None


def test_more_ranks_than_cores_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(doctor, "cgroup_cores", lambda: None)
    for ranks, state in ((2, Verdict.OK), (3, Verdict.NOTE)):
        monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", str(ranks))
        assert doctor.cores().state is state


def test_a_package_that_cant_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise OSError('libGL.so.1 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", {"numpy": "numpy", "broken_package": "broken"})
    check = doctor.packages()
    assert check.state is Verdict.FAILED
    assert "broken_package (OSError: libGL.so.1 is missing)" in check.text
    assert "numpy (" not in check.text


def test_every_optional_package_is_listed_with_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ("plotly", "tensorboard", "mlflow")
    monkeypatch.setattr(
        doctor, "_imported", lambda names: ([], [n for n in names if n in absent], [])
    )
    found = {name: object() for name in doctor.SLOW_TO_IMPORT if name not in absent}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    check = doctor.optional_packages()
    assert check.state is Verdict.NOTE
    assert "Not installed: Plotly (esd report); TensorBoard, MLflow (run.loggers). " in check.text
    assert check.text.endswith(": pip install 'esd-mpi[mlflow,report,tensorboard]'")
    assert doctor.PURPOSES.keys() == EXTRAS.keys() - {"pygame"}, "pygame comes with Box2D"


def test_threads_of_libraries_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert "OMP_NUM_THREADS=8" in doctor.threads().text
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.threads().state is Verdict.OK


def test_a_cache_that_is_cold_or_can_be_kept_nowhere_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(COMPILER.folder, "path", None)
    monkeypatch.setattr(COMPILER.folder, "readable", [])
    assert "NUMBA_CACHE_DIR" in doctor.kernel_cache().text
    monkeypatch.setattr(COMPILER.folder, "path", tmp_path)
    monkeypatch.setattr(COMPILER.folder, "readable", [tmp_path])
    assert "empty" in doctor.kernel_cache().text
    (tmp_path / "kernel.kernel").write_bytes(b"")
    assert doctor.kernel_cache().state is Verdict.OK


def test_kernels_of_an_image_do_without_a_folder_that_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel.kernel").write_bytes(b"")
    monkeypatch.setattr(COMPILER.folder, "path", None)
    monkeypatch.setattr(COMPILER.folder, "readable", [tmp_path])
    assert doctor.kernel_cache().state is Verdict.OK


def test_a_kernel_that_was_compiled_is_counted() -> None:
    """What the cache writes, and not only what a test calls so."""
    from esd.evolution.noise import Purpose, normals

    normals(0, Purpose.HASH, 4)
    assert doctor.kernel_cache().state is Verdict.OK


def test_little_room_on_the_disk_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1e30)
    assert doctor.disk().state is Verdict.NOTE
