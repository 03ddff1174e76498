"""A run's folder that can't be written for a while, or not any more."""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from esd.commands.console import Quiet
from esd.config.settings import Config
from esd.errors import EXIT_STOPPED_EARLY, NotWritableError, StoppedEarlyError
from esd.evolution.state import RunState
from esd.mpi.comm import Alone, JobFailedError
from esd.run import checkpoint
from esd.training import patience
from esd.training.patience import Patience
from esd.training.plan import Plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import objective, small
from tests.helpers.training import from_journal, trained

GENERATIONS = 8


def config_of(*settings: str) -> Config:
    """Settings of all runs here; [run] may differ without another h."""
    return small(
        "cartpole-static",
        f"generations={GENERATIONS}",
        "run.checkpoint_every=3",
        "run.center_every=1",
        *settings,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("reference") / "run"
    trained(config_of(), run)
    return run


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(patience, "WAIT_SECONDS", 0.05)


class Disk:
    """Fails while it is full."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], number: int
    ) -> None:
        self.full = False
        for name in calls:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name), number))

    def _failing(self, call: Callable[..., object], number: int) -> Callable[..., object]:
        def broken(*words: object, **named: object) -> object:
            if self.full:
                raise OSError(number, os.strerror(number))
            return call(*words, **named)

        return broken


class Story(Quiet):
    """Does something after some generations, and keeps what is reported."""

    def __init__(self, deeds: dict[int, Callable[[], object]]) -> None:
        self.deeds, self.notes, self.seen = deeds, list[str](), list[int]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def generation(self, report: object, generations: int) -> None:
        generation = report.generation  # type: ignore[attr-defined]
        self.seen.append(generation)
        self.deeds.get(generation, lambda: None)()


def told(run: Path, deeds: dict[int, Callable[[], object]], *settings: str) -> Story:
    """Train a run in which something happens."""
    return told_of(config_of(*settings), run, deeds)


def told_of(config: Config, run: Path, deeds: dict[int, Callable[[], object]]) -> Story:
    """Train a run of a config in which something happens."""
    story = Story(deeds)
    train(Alone(), Plan(config, run, b"", None), StopRequest(), story)
    return story


def assert_same(run: Path, reference: Path, generations: int = GENERATIONS) -> None:
    assert (run / "journal.bin").read_bytes() == (reference / "journal.bin").read_bytes()
    for name in ("best", f"generation-{generations:08d}"):
        found, wanted = (
            checkpoint.load(folder / f"checkpoints/{name}.safetensors")
            for folder in (run, reference)
        )
        assert found.state.sha256() == wanted.state.sha256(), name
        assert found.center_return == wanted.center_return
    lines = [
        len((folder / "metrics.jsonl").read_text().splitlines()) for folder in (run, reference)
    ]
    assert lines[0] == lines[1]
    assert (run / "DONE.json").is_file()


CALLS = {
    "full": (("pwrite", "open"), errno.ENOSPC),
    "quota": (("pwrite",), errno.EDQUOT),
    "failing syncs": (("fsync",), errno.EIO),
    "failing renames": (("rename", "replace"), errno.EIO),
    "stale": (("open", "pwrite", "fsync", "lstat"), errno.ESTALE),
}


@pytest.mark.parametrize("fault", CALLS)
@pytest.mark.parametrize("begins", range(0, GENERATIONS, 2))
def test_a_run_goes_on_in_memory_until_its_folder_can_be_written_again(
    fault: str, begins: int, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, *CALLS[fault])
    story = told(
        tmp_path / "run",
        {
            begins: lambda: setattr(disk, "full", True),
            begins + 2: lambda: setattr(disk, "full", False),
        },
    )
    assert story.seen == list(range(GENERATIONS + 1))
    assert_same(tmp_path / "run", reference)
    reasons = [note for note in story.notes if os.strerror(CALLS[fault][1]) in note]
    back = [note for note in story.notes if "can be written again" in note]
    assert len(reasons) == len(back) <= 1
    if fault != "failing syncs":
        assert reasons


def test_a_best_state_that_waits_for_the_disk_is_saved_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the memory that it was in holds a later state."""
    run, disk, saved = tmp_path / "run", Disk(monkeypatch, *CALLS["full"]), list[RunState]()
    told_of(
        objective("sphere", "run.center_every=2"),  # h_2 is better than h_0
        run,
        {
            1: lambda: setattr(disk, "full", True),
            2: lambda: setattr(disk, "full", False),
            3: lambda: saved.append(checkpoint.load(run / "checkpoints/best.safetensors").state),
        },
    )
    assert saved[0].sha256() == from_journal(run, 2).sha256()


@pytest.mark.parametrize("fault", CALLS)
def test_a_run_stops_before_too_much_of_it_is_in_memory_only(
    fault: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, *CALLS[fault])
    monkeypatch.setattr("esd.run.journal_writer.SYNC_SECONDS", 0.0)
    with pytest.raises(JobFailedError) as caught:
        told(
            tmp_path / "run", {1: lambda: setattr(disk, "full", True)}, "run.unsaved_generations=3"
        )
    assert caught.value.exit_code == EXIT_STOPPED_EARLY
    text = str(caught.value.__cause__)
    assert os.strerror(CALLS[fault][1]) in text
    assert "run the same command again" in text
    lost = 3 if fault != "failing renames" else 0  # the journal needs none
    assert f"the last {lost} generations are lost" in text or not lost
    disk.full = False
    assert trained(config_of(), tmp_path / "run").finished
    assert_same(tmp_path / "run", reference)


def test_with_no_patience_the_first_failure_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, ("pwrite",), errno.ENOSPC)
    monkeypatch.setattr(patience, "WAIT_SECONDS", 1000.0)
    with pytest.raises(JobFailedError) as caught:
        told(
            tmp_path / "run", {1: lambda: setattr(disk, "full", True)}, "run.unsaved_generations=0"
        )
    assert "the last generation is lost" in str(caught.value.__cause__)


def test_a_folder_that_is_moved_away_and_back_is_waited_for(
    reference: Path, tmp_path: Path
) -> None:
    run, away = tmp_path / "run", tmp_path / "away"
    story = told(run, {1: lambda: run.rename(away), 4: lambda: away.rename(run)})
    assert_same(run, reference)
    assert (
        f"{run}: can't be written (No such file or directory); the run continues" in story.notes[-2]
    )


@pytest.mark.parametrize("after", [2, GENERATIONS])
@pytest.mark.parametrize("harm", [shutil.rmtree, lambda run: run.rename(run.with_name("moved"))])
def test_a_folder_that_stays_away_stops_the_run(
    harm: Callable[[Path], object], after: int, tmp_path: Path
) -> None:
    with pytest.raises(JobFailedError) as caught:
        told(tmp_path / "run", {after: lambda: harm(tmp_path / "run")}, "run.unsaved_generations=2")
    assert caught.value.exit_code == EXIT_STOPPED_EARLY
    assert "can't be written (No such file or directory)" in str(caught.value.__cause__)
    assert not list(tmp_path.rglob("DONE.json"))


def test_checkpoints_that_are_removed_are_made_again(reference: Path, tmp_path: Path) -> None:
    told(tmp_path / "run", {2: lambda: shutil.rmtree(tmp_path / "run/checkpoints")})
    assert_same(tmp_path / "run", reference)


class CrashError(BaseException):
    """The process is gone."""


class Crashing:
    """Ends the process in one of the calls that change a disk: before it, or in the middle of its bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, share: float) -> None:
        self._count, self._number, self._share = 0, number, share
        for name in ("pwrite", "fsync", "replace", "unlink", "ftruncate", "mkdir", "open"):
            monkeypatch.setattr(os, name, self._broken(name, getattr(os, name)))
        monkeypatch.setattr(io, "open", self._opening(io.open))

    def _broken(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def broken(*words: object, **named: object) -> object:
            if name == "pwrite":
                self.called(lambda part: call(words[0], part, *words[2:]), words[1])
            else:
                self.called()
            return call(*words, **named)

        return broken

    def _opening(self, call: Callable[..., object]) -> Callable[..., object]:
        crashing = self

        class File(io.FileIO):
            def write(self, data: object) -> int:
                crashing.called(super().write, data)
                return super().write(data)  # type: ignore[arg-type]

        def opened(file: object, mode: str = "r", *rest: object, **named: object) -> object:
            if not set(mode) & set("wax+"):
                return call(file, mode, *rest, **named)
            raw = File(file, mode.replace("b", "").replace("t", ""))  # type: ignore[arg-type]
            return raw if named.get("buffering") == 0 else io.BufferedWriter(raw)

        return opened

    def called(
        self, write: Callable[[object], object] = lambda part: None, data: object = b""
    ) -> None:
        self._count += 1
        if self._count == self._number:
            write(bytes(data)[: int(len(data) * self._share)])  # type: ignore
        if self._count >= self._number:
            raise CrashError  # nothing is done any more, not even on the way out


def test_the_limit_counts_what_waits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(patience, "available_memory", lambda: 400)
    patient = Patience(10, notes.append, clock=lambda: 0.0, sleep=lambda seconds: None)

    def fail() -> None:
        raise NotWritableError("a: can't be written (full)", "make room")

    patient.try_to(fail, lambda: 1, lambda: 100)
    assert len(notes) == 1
    monkeypatch.setattr(patience, "WAIT_SECONDS", 0.0)
    with pytest.raises(StoppedEarlyError, match=r"a: can't be written \(full\); stopped"):
        patient.try_to(fail, lambda: 1, lambda: 101)
    with pytest.raises(StoppedEarlyError, match="the last 10 generations are lost"):
        patient.try_to(fail, lambda: 10, lambda: 0)
    patient.try_to(lambda: None, lambda: 0, lambda: 0)
    assert notes[1:] == ["the run's folder can be written again; nothing was lost"]
    assert not patient.tried_in_vain


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("first", "share"), [(1, 0.01), (2, 0.5), (3, 0.99), (4, 0.0)])
def test_a_crash_in_any_call_that_writes_leaves_a_folder_that_resumes_to_the_same_bits(
    first: int, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of four tests has every fourth call."""
    config = config_of(  # the best center is that of generation 1
        "generations=4", "population=4", "run.center_episodes=1", "env.max_steps=300", "seed=3"
    )
    reference = tmp_path / "reference"
    trained(config, reference)
    for number in itertools.count(first, 4):
        run, ended = tmp_path / f"run-{number}", False
        with monkeypatch.context() as context:
            Crashing(context, number, share)
            try:
                trained(config, run)
                ended = True
            except CrashError:
                pass
        if not ended:
            trained(config, run)
        assert_same(run, reference, 4)
        if ended:
            break
    assert number > 60
