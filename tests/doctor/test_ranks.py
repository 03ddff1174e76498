"""What is said of cores, GPUs, the network, a run's file system and what draws, on machines made up for it."""

from __future__ import annotations

import ctypes.util
import errno
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from esd.config.settings import FORMAT, EnvironmentConfig
from esd.doctor import mpi, ranks, rendering, run_folder
from esd.doctor.machine import Check, Verdict
from esd.mpi import placement
from esd.mpi.comm import Alone
from tests.helpers.thread_ranks import World


def mounted(tmp_path: Path, kind: str, options: str = "rw") -> Path:
    """A list of mounts, by which everything is on a file system of one kind."""
    file = tmp_path / "mountinfo"
    file.write_text(f"22 1 0:20 / / rw,relatime shared:1 - {kind} device {options}\n")
    return file


def of_folder(folder: Path, mounts: Path, needed: bool = True) -> dict[str, Check]:
    before = {*folder.iterdir()}
    found = {check.name: check for check in run_folder.run_folder(folder, needed, mounts)}
    assert {*folder.iterdir()} == before
    return found


@pytest.mark.parametrize(
    ("kind", "options", "remark", "locks"),
    [
        ("ext4", "rw", "", True),
        ("tmpfs", "rw", "memory: its files are lost", True),
        ("nfs4", "rw,vers=4.2", "a server that does not respond", True),
        ("nfs", "rw,nolock", "a server that does not respond", False),
        ("lustre", "rw,localflock", "slow with small files", False),
        ("overlay", "rw", "lost with the container", True),
    ],
)
def test_a_file_system_is_named_with_what_it_means(
    kind: str,
    options: str,
    remark: str,
    locks: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "SLOW_SYNC_SECONDS", 60.0)  # this machine's disk may be busy
    mounts = mounted(tmp_path, kind, options)
    found = of_folder(tmp_path, mounts)
    assert f"is on {kind}" in found["file system"].text
    assert remark in found["file system"].text
    assert found["file system"].state is (Verdict.NOTE if remark else Verdict.OK)
    assert found["write test"].state is Verdict.OK
    assert found["write test"].figures["sync_milliseconds"] > 0
    assert found["locks"].state is (Verdict.OK if locks else Verdict.NOTE)


def test_a_slow_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "SLOW_SYNC_SECONDS", 0.0)
    check = of_folder(tmp_path, mounted(tmp_path, "ext4"))["write test"]
    assert check.state is Verdict.NOTE
    assert "slow, so short generations have to wait for it" in check.text


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EROFS, "is read-only"),
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_a_folder_that_cant_be_written_has_failed_if_a_run_is_there(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    mounts = mounted(tmp_path, "ext4")
    monkeypatch.setattr(run_folder.os, "open", refuse)
    for needed, state in ((True, Verdict.FAILED), (False, Verdict.NOTE)):
        check = of_folder(tmp_path, mounts, needed)["write test"]
        assert check.state is state
        assert told in check.text
        assert "--run" in check.text


def test_a_file_system_without_exclusive_files_or_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = mounted(tmp_path, "ext4")
    monkeypatch.setattr(run_folder.fcntl, "flock", lambda *arguments: None)
    assert "has no locks" in of_folder(tmp_path, mounts)["locks"].text
    monkeypatch.undo()
    open_file = os.open
    monkeypatch.setattr(
        run_folder.os, "open", lambda path, flags, mode: open_file(path, flags & ~os.O_EXCL, mode)
    )
    check = of_folder(tmp_path, mounts)["write test"]
    assert (check.state, "O_EXCL" in check.text) == (Verdict.FAILED, True)


def test_the_folder_of_a_run_or_of_runs_to_come_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_folder.where_runs_are(None) == tmp_path
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert run_folder.where_runs_are("cartpole") == tmp_path / "runs"
    assert run_folder.where_runs_are("runs/one") == tmp_path / "runs" / "one"
    assert run_folder.is_run("runs/one")
    assert not run_folder.is_run("cartpole")


def drawing(
    monkeypatch: pytest.MonkeyPatch,
    modules: str,
    libraries: str,
    **environment: str,
) -> Check:
    """What is said where there are only these."""
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rendering, "_has", lambda module: module in modules.split())
    monkeypatch.setattr(ctypes.util, "find_library", lambda n: n if n in libraries else None)
    return rendering.rendering()


ALL = "pygame mujoco PIL imageio_ffmpeg"


def test_what_draws_is_named_and_what_is_missing_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def say(*words: str, **environment: str) -> Check:
        return drawing(monkeypatch, *words, **environment)

    fine = say(ALL, "EGL", MUJOCO_GL="egl")
    assert (fine.state, fine.text) == (
        Verdict.OK,
        "SDL (pygame), EGL (MUJOCO_GL=egl), Pillow, imageio-ffmpeg",
    )
    assert say(ALL, "", DISPLAY=":0").state is Verdict.OK
    assert "Pillow, for .gif and .mp4: pip install 'esd-mpi[video]'" in say("pygame", "").text
    assert "imageio-ffmpeg, for .mp4: pip install 'esd-mpi[video]'" in say("pygame PIL", "").text
    assert "OSMESA, for MuJoCo" in say(ALL, "OSMesa").text
    assert "apt-get install libegl1" in say(ALL, "").text
    assert "apt-get install libosmesa6" in say(ALL, "EGL", MUJOCO_GL="osmesa").text
    bare = say("", "")
    assert bare.state is Verdict.NOTE
    assert "pip install 'gymnasium[classic-control]'" in bare.text
    assert "pip install 'esd-mpi[video]'" in bare.text


def picture_of(name: str) -> list[Check]:
    env = EnvironmentConfig(id=f"tests.helpers.exported_worlds:{name}", max_steps=3)
    return [*rendering.one_picture(env, FORMAT)]


def test_one_picture_is_drawn_and_what_is_wrong_with_it_is_a_note_that_says_so() -> None:
    (drawn,) = picture_of("Drawn")
    assert (drawn.state, drawn.text) == (Verdict.OK, "160 × 120 pixels, 10 frames per second")
    for name, words in {
        "Scribble": "render() returned list, expected a uint8 array [rows, columns, 3]",
        "Forgotten": "render() returned None, expected a uint8 array [rows, columns, 3]",
        "Bright": "render() returned a float64 array of shape [120, 160, 3], expected a uint8 array",
        "Blind": "can't be rendered on this machine (RuntimeError: no display). esd eval --video",
    }.items():
        (check,) = picture_of(name)
        assert check.state is Verdict.NOTE
        assert words in check.text
        assert "MuJoCo" not in check.text
    assert [*rendering.one_picture(EnvironmentConfig(id="esd/TMaze-v0"), FORMAT)] == []


def test_a_drawing_that_ends_its_process_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esd.evaluation.test_episodes.is_drawn_by_mujoco", lambda id: True)
    monkeypatch.setattr(sys, "executable", "false")
    (check,) = picture_of("Drawn")
    assert check.state is Verdict.NOTE
    assert "drawing ended with code 1" in check.text


def torch_of(*names: str, cuda: str | None = "12.8") -> Any:
    """A stand-in for PyTorch on a machine with GPUs."""
    gpus = types.SimpleNamespace(
        is_available=lambda: bool(names),
        device_count=lambda: len(names),
        get_device_name=lambda number: names[number],
        get_device_properties=lambda number: types.SimpleNamespace(uuid=f"gpu {number}"),
    )
    return types.SimpleNamespace(
        cuda=gpus, __version__="9.9", version=types.SimpleNamespace(cuda=cuda)
    )


def test_gpus_are_counted_and_without_any_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_of("H", "H"))
    assert ranks.gpus().text == "2 (H): start 2 ranks here with device = cuda, one GPU per rank"
    assert ranks.gpus().figures == {"gpus": 2}
    monkeypatch.setitem(sys.modules, "torch", torch_of(cuda=None))
    assert "none (PyTorch 9.9 without CUDA)" in ranks.gpus().text
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(ranks, "DEVICES", tmp_path)
    assert ranks.gpus().state is Verdict.OK
    assert "there are some" not in ranks.gpus().text
    (tmp_path / "nvidia0").touch()
    assert ranks.gpus().state is Verdict.NOTE
    assert "there are some, but PyTorch" in ranks.gpus().text


def test_ranks_say_together_how_they_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_of("H", "H"))
    monkeypatch.setattr(placement, "_online", lambda: 2)
    monkeypatch.setattr(placement.control_groups, "core_set", lambda root: None)
    monkeypatch.setattr(placement.control_groups, "cores", lambda root: None)
    outcomes = World(4, 1, {}).run(lambda comm: [*ranks.on_ranks(comm)])
    found = {check.name: check for check in outcomes[0]}
    assert "allreduce_microseconds" in found["allreduce"].figures
    assert found["ranks for each GPU"].text == "2"
    said = [check.text for check in outcomes[0] if check.name == "ranks and cores"]
    assert any(text.startswith("4 ranks share 2 cores") for text in said)
    assert any(text.startswith("4 ranks share 2 GPUs") for text in said)


def test_a_slow_exchange_is_noted() -> None:
    assert ranks.latency(2e-6, 2).text == "2 µs for 4 kB among 2 ranks, the median of 100"
    assert ranks.latency(0.02, 2).state is Verdict.NOTE
    assert 0 < ranks.exchange_seconds(Alone()) < 1


def test_cores_are_listed_as_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.listed([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert len(ranks.listed(range(0, 2000, 2))) < 70
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3})
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert "may use 2 cores: 1,3" in ranks.pinning().text


def test_folders_of_dead_launchers_are_shown_with_what_removes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mpi.left_folders(tmp_path) == []
    (tmp_path / "ompi.999999999").mkdir()
    left = mpi.left_folders(tmp_path)
    monkeypatch.setattr(mpi, "left_folders", lambda: left)
    check = mpi.session_folders()
    assert check.state is Verdict.NOTE
    assert f"rm -r {tmp_path}/ompi.999999999" in check.text
