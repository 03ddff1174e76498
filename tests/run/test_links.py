"""Nothing planted in a run's folder lets a resume write, append to or remove anything outside of it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

import esd
from esd.errors import EsdError, UsageError
from esd.evaluation import stored
from esd.run.files import remove_stale, write_atomically
from esd.run.folder import RunFolder
from esd.run.training_folder import TrainingFolder
from esd.training.plan import TrainRequest, make_plan

SETTINGS = {"seed": 4, "generations": 2, "population": 4, "env.max_steps": 20, "policy.hidden": [3]}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links")
    run = esd.train("cartpole", run=folder / "run", settings=SETTINGS)
    run.evaluate(episodes=1)
    return folder / "run"


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def longer(run: Path) -> None:
    esd.train(run=run, generations=3)


@pytest.mark.parametrize(
    "name",
    ["config.toml", "provenance.json", "journal.bin", "metrics.jsonl", "DONE.json", "lock", "initial.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_whatever_stands_in_place_of_a_file_is_not_written_through(
    name: str, kind: str, run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = run / name
    target = outside / name
    if path.exists() and kind == "link":
        shutil.copy(path, target)
    path.unlink(missing_ok=True)
    if kind in ("link", "dangling"):
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = everything(outside)
    with pytest.raises(EsdError) as error:
        longer(run)
    assert name in str(error.value)
    assert everything(outside) == before
    assert path.is_symlink() == (kind in ("link", "dangling"))


@pytest.mark.parametrize("name", ["checkpoints", "evaluations"])
def test_a_folder_that_is_a_link_is_refused(name: str, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (run / name).rename(outside)
    (run / name).symlink_to(outside)
    before = everything(outside)
    with pytest.raises(EsdError, match=f"{name}: is a symbolic link"):
        longer(run)
    if name == "evaluations":
        with pytest.raises(EsdError, match=f"{name}: is a symbolic link"):
            esd.Run(run).evaluate(episodes=2)
        with pytest.raises(UsageError, match="is a symbolic link"):
            stored.read(RunFolder(run))
    assert everything(outside) == before


def test_a_link_under_the_name_of_a_temporary_file_is_not_followed(
    run: Path, tmp_path: Path
) -> None:
    """The name was always the same once, and a resume wrote config.toml wherever it led to."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("config.toml", "journal.bin", "metrics.jsonl", "provenance.json", "DONE.json"):
        (run / f".{name}.tmp").symlink_to(victim)
    longer(run)
    assert victim.read_text() == "mine"
    assert esd.Run(run).generation == 3
    assert not list(run.glob(".*.tmp")), "they were removed as what a killed writer leaves"


def test_starting_from_scratch_removes_links_and_not_what_they_lead_to(
    run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(run / "checkpoints", outside)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(outside)
    (run / "evaluations" / "elsewhere").symlink_to(outside)
    before = everything(outside)
    folder = TrainingFolder(run)
    config = folder.config()
    folder.create(config, {}, erase=True)
    folder.unlock()
    assert everything(outside) == before
    assert list((run / "checkpoints").iterdir()) == []


def test_old_checkpoints_are_removed_only_beneath_the_folder(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "generation-00000000.safetensors"
    outside.write_text("mine")
    (run / "checkpoints" / outside.name).symlink_to(outside)
    (run / "checkpoints" / "generation-00000001.safetensors").mkdir()
    longer(run)
    assert outside.read_text() == "mine"
    assert (run / "checkpoints" / "generation-00000003.safetensors").is_file()


def test_a_folder_in_place_of_the_best_checkpoint_is_refused_before_training(run: Path) -> None:
    (run / "checkpoints" / "best.safetensors").unlink()
    (run / "checkpoints" / "best.safetensors").mkdir()
    with pytest.raises(
        UsageError, match=r"best\.safetensors: is a folder, expected a regular file"
    ):
        longer(run)
    assert esd.Run(run).generation == 2


def test_temporary_files_of_killed_writers_are_removed_by_the_next_start(run: Path) -> None:
    left = [
        run / ".config.toml.0123456789abcdef.tmp",
        run / "checkpoints" / ".best.safetensors.tmp",
    ]
    young = run / "evaluations" / ".x.json.0123456789abcdef.tmp"  # of an esd eval beside it
    old = run / "evaluations" / ".y.json.0123456789abcdef.tmp"
    others = run / ".mine.txt"
    for path in (*left, young, old, others):
        path.write_text("x")
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    longer(run)
    assert not any(path.exists() for path in (*left, old))
    assert young.exists()
    assert others.exists()


def test_a_file_is_written_under_a_name_that_cannot_be_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda a, b: (names.append(a.name), replace(a, b))[1])
    for _ in range(2):
        write_atomically(tmp_path / "x", b"x")
    assert len(set(names)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    remove_stale(tmp_path, 0.0)
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"[1]",
        b'{"reason": 3}',
        b"[]",
        b'{"reason": "\\ud800"}',
        b'{"reason": "\\u001b[2J"}',
    ],
)
def test_a_damaged_done_file_is_passed_over_and_written_again(damaged: bytes, run: Path) -> None:
    (run / "DONE.json").write_bytes(damaged)
    h = esd.Run(run).h().tobytes()
    said: list[str] = []
    plan = make_plan(TrainRequest(run=run), said.append)
    assert not plan.finished
    assert any("DONE.json" in line and "\n" not in line for line in said)
    esd.train(run=run)
    assert esd.Run(run).finished
    assert esd.Run(run).h().tobytes() == h


def test_a_damaged_provenance_is_kept_aside(run: Path) -> None:
    (run / "provenance.json").write_bytes(b"\xff{")
    longer(run)
    assert (run / "provenance.json.damaged").read_bytes() == b"\xff{"
    assert RunFolder(run).provenance_file.read_text().startswith("[")


@pytest.mark.parametrize(("name", "reason"), [("x" * 300, "File name too long"), ("a\0b", "null")])
def test_a_path_that_nothing_can_have_is_refused_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"is not a usable path .*{reason}"):
        esd.Run(name)
    with pytest.raises(UsageError, match=reason):
        esd.train("cartpole", run=name)


def test_links_in_a_circle_and_folders_are_no_experiments(tmp_path: Path, run: Path) -> None:
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    with pytest.raises(UsageError, match="Too many levels of symbolic links"):
        esd.train(tmp_path / "loop.toml", run=tmp_path / "new")
    with pytest.raises(UsageError, match="is a folder; to resume the run in it, use --run"):
        esd.train(run, run=tmp_path / "new")
