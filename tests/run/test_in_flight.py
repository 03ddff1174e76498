"""What a rank was evaluating is known after its death, whatever killed it; of what is damaged nothing is known."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from esd import time_limit
from esd.run import in_flight
from esd.run.in_flight import InFlight, left, path_of
from esd.training.stop import StopRequest

IDENTITY, OTHER = "0123456789abcdef" * 4, "f123456789abcdef" * 4
ROWS = 20


def flight(folder: Path, rank: int = 0, warned: list[str] | None = None) -> InFlight:
    found = InFlight(
        folder / "in_progress", rank, ROWS, IDENTITY, ([] if warned is None else warned).append
    )
    found.open()
    return found


def died(folder: Path, deed: Callable[[InFlight], object], rank: int = 0) -> int:
    """A process that makes its file in generation 7, does something and ends there; how, as ``os.wait`` has it."""
    (folder / "in_progress").mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            one = flight(folder, rank)
            one.begin(7)
            deed(one)
        finally:
            os._exit(3)
    return os.waitpid(child, 0)[1]


def found(folder: Path, generation: int = 7, identity: str = IDENTITY) -> list[tuple[object, ...]]:
    return [
        (one.rank, one.rows, one.by_itself, one.time)
        for one in left(folder / "in_progress", identity, generation, ROWS)
    ]


def draws_and_kills_itself(one: InFlight) -> None:
    rows = one.noted(iter([3, 5, 8, 9]))
    for _ in range(3):
        next(rows)
    one.done(3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_that_were_drawn_and_not_done_are_known_after_the_death(tmp_path: Path) -> None:
    assert os.WTERMSIG(died(tmp_path, draws_and_kills_itself, 2)) == signal.SIGKILL
    assert found(tmp_path) == [(2, (5, 8), True, False)]
    # but not in another generation, or in another run
    assert found(tmp_path, 8) == []
    assert found(tmp_path, identity=OTHER) == []


def test_what_raises_is_no_death(tmp_path: Path) -> None:
    def raises(one: InFlight) -> None:
        with one.watching():
            next(one.noted(iter([4])))
            raise ValueError

    died(tmp_path, raises)
    assert found(tmp_path) == [(0, (), True, False)]


@pytest.mark.parametrize(
    ("number", "by_itself"),
    [(signal.SIGTERM, False), (signal.SIGUSR1, False), (signal.SIGCHLD, True)],
)
def test_a_rank_that_was_asked_to_end_is_told_from_one_that_died(
    number: signal.Signals, by_itself: bool, tmp_path: Path
) -> None:
    def deed(one: InFlight) -> None:
        stop = StopRequest()
        with stop.listening():
            stop.keep_in(one.signals)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            next(one.noted(iter([1])))
            # Python never comes to run its handler
            os.kill(os.getpid(), number), os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(died(tmp_path, deed)) == signal.SIGKILL
    assert found(tmp_path) == [(0, (1,), by_itself, False)]


def test_signals_are_heard_as_before_when_they_are_kept_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "in_progress").mkdir()
    one, stop = flight(tmp_path), StopRequest()
    with stop.listening():
        stop.keep_in(one.signals)
        signal.signal(signal.SIGUSR1, lambda *_: None)  # an environment's own
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not stop.requested
        stop.renew()
        assert stop.requested
        stop.keep_in(None)
        one.close()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_a_file_that_was_closed_by_others_does_not_hide_signals(tmp_path: Path) -> None:
    (tmp_path / "in_progress").mkdir()
    one, stop = flight(tmp_path), StopRequest()
    with stop.listening():
        stop.keep_in(one.signals)
        assert one.signals is not None
        for descriptor in one.signals:
            os.close(descriptor)
        stop.renew()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    one.close()


@pytest.mark.parametrize("answers", [True, False])
def test_a_process_that_no_time_limit_could_interrupt_is_known_by_its_last_signal(
    answers: bool, tmp_path: Path
) -> None:
    def deed(one: InFlight) -> None:
        stop = StopRequest()
        with stop.listening():
            stop.keep_in(one.signals)
            rows = one.noted(iter([1, 2]))
            next(rows)
            if answers:
                try:
                    with time_limit.time_limit(0.05, "env.episode_seconds"):
                        time.sleep(5.0)
                except time_limit.TimeLimitError:
                    one.done(1)
                next(rows)
            else:
                signal.signal(signal.SIGALRM, lambda *_: None)
                os.kill(os.getpid(), signal.SIGALRM)
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(died(tmp_path, deed)) == signal.SIGKILL
    assert found(tmp_path) == [(0, (2,) if answers else (1,), True, not answers)]


def test_whoever_leaves_removes_its_file_and_the_folder_if_it_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "node" / "run"  # which is not there, as on a node with a disk of its own
    one, other = flight(folder), flight(folder, 1)
    assert path_of(folder / "in_progress", 1).exists()
    other.close()
    assert path_of(folder / "in_progress", 0).exists()
    one.close()
    assert not folder.exists()


def test_without_a_disk_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    warned: list[str] = []
    one = flight(tmp_path, 0, warned)
    one.begin(1)
    assert list(one.noted(iter([1, 2]))) == [1, 2]
    one.done(1)
    one.close()
    assert len(warned) == 1
    assert "No space left on device" in warned[0]


def test_damage_names_no_row_that_there_is_not(tmp_path: Path) -> None:
    died(tmp_path, draws_and_kills_itself)
    path = path_of(tmp_path / "in_progress", 0)
    whole, dice = path.read_bytes(), random.Random(5)
    for _ in range(300):
        data = bytearray(
            whole[: dice.randrange(len(whole) + 1)] + dice.randbytes(dice.randrange(9))
        )
        for _ in range(dice.randrange(3)):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        for _, rows, _, _ in found(tmp_path):
            assert isinstance(rows, tuple)
            assert all(0 <= row < ROWS for row in rows)
    path.unlink()
    path.symlink_to("/dev/zero")
    (path.parent / "flight-x.bin").mkdir()
    assert found(tmp_path) == []
    assert in_flight.left(tmp_path / "none", IDENTITY, 7, ROWS) == []
