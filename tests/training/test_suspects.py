"""A member that ends every process that evaluates it is found out, named, and ranks last if the run is to go on."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.settings import Config
from esd.errors import FinalError
from esd.evolution.records import Status
from esd.evolution.state import RunState
from esd.mpi.comm import JobFailedError
from esd.objectives.problem import ObjectiveEvaluator
from esd.run import journal, losses
from esd.run.in_flight import InFlight, path_of
from esd.training.loop import Ending
from tests.helpers.configs import objective
from tests.helpers.thread_ranks import KilledError, World
from tests.helpers.training import from_journal, trained

GENERATION, POPULATION = 2, 10
MEMBER = 5


def config(*more: str) -> Config:
    return objective(
        "noisy_sphere", f"population={POPULATION}", "generations=4", "run.center_every=2", "run.center_episodes=3",
        'es.shaping="standardize"', *more, x={"shape": [50], "initial": 0.5},
    )  # fmt: skip


class Deaths:
    """Processes end while they evaluate; what they leave stays, as it does when a real one dies.

    Attributes:
        poison: rows of ``GENERATION`` that end whoever evaluates them.
        evaluated: how often each row of that generation was begun.
        batch: rows that are drawn at once before any is evaluated, as in lock-step.
        together: the rows of each batch in which a poisoned one was.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.poison: set[int] = {MEMBER}
        self.evaluated: collections.Counter[int] = collections.Counter()
        self.batch = 1
        self.together: list[tuple[int, ...]] = []
        real = ObjectiveEvaluator.fill

        def fill(
            evaluator: ObjectiveEvaluator, state: RunState, rows: Iterator[int], records: Any
        ) -> None:
            while batch := list(itertools.islice(rows, self.batch)):
                if state.generation == GENERATION:
                    self.evaluated.update(batch)
                    if self.poison.intersection(batch):
                        self.together.append(tuple(batch))
                        raise KilledError
                real(evaluator, state, iter(batch), records)

        @contextlib.contextmanager
        def watching(self: InFlight) -> Iterator[None]:
            yield

        monkeypatch.setattr(ObjectiveEvaluator, "fill", fill)
        monkeypatch.setattr(InFlight, "watching", watching)
        monkeypatch.setattr(InFlight, "close", lambda self: None)


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Deaths:
    return Deaths(monkeypatch)


def failing(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: int) -> str:
    """The h of a run in which the calls of these members fail, which rank last: another way to the same h."""
    with monkeypatch.context() as patch:
        real = ObjectiveEvaluator.fill

        def fill(self: Any, state: RunState, drawn: Iterator[int], records: Any) -> None:
            for row in drawn:
                if state.generation == GENERATION and row in rows:
                    nothing = [np.nan]
                    records.write(
                        row, returns=nothing, steps=1, episodes=1, status=Status.NOT_FINITE
                    )
                else:
                    real(self, state, iter([row]), records)

        patch.setattr(ObjectiveEvaluator, "fill", fill)
        return trained(config(), folder / "failing").state.h_sha256()


def killed(settings: Config, folder: Path, times: int) -> None:
    """Train a number of times, in which the process dies."""
    for _ in range(times):
        with pytest.raises(KilledError):
            trained(settings, folder)


def statuses(folder: Path) -> list[int]:
    """The status of each member of the generation, as the journal has them."""
    contents = journal.scan(folder / "journal.bin")
    records = dict(contents.entries(GENERATION, GENERATION + 1))[GENERATION]
    return records.table[:POPULATION, 3].tolist()


def test_after_three_deaths_a_lone_process_ranks_it_last_and_never_evaluates_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = failing(tmp_path, monkeypatch, MEMBER)
    deaths, run = Deaths(monkeypatch), tmp_path / "run"
    killed(config(), run, 3)
    ending = trained(config(), run)
    assert ending.state.h_sha256() == wanted
    assert deaths.evaluated[MEMBER] == 3
    expected = [0] * POPULATION
    expected[MEMBER] = Status.NO_RESULT
    assert statuses(run) == expected
    assert not (run / "in_progress").exists()
    errors = capsys.readouterr().err
    assert "generation 2, member 5: its evaluation has crashed the process 3 times" in errors
    # the journal says it: nothing is evaluated
    assert from_journal(run).h_sha256() == wanted
    assert deaths.evaluated[MEMBER] == 3


def test_a_run_that_is_to_stop_ends_with_its_name_and_may_be_tried_again_when_it_is_repaired(
    deaths: Deaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, run = config('objective.on_failure="stop"'), tmp_path / "run"
    killed(settings, run, 3)
    for times in (3, 4):
        with pytest.raises(JobFailedError) as failed:
            trained(settings, run)
        cause = failed.value.__cause__
        assert isinstance(cause, FinalError)
        assert "generation 2, member 5: its evaluation has crashed the process 3 times" in str(
            cause
        )
        assert '--set objective.on_failure="worst"' in str(cause)
        assert deaths.evaluated[MEMBER] == times
        killed(settings, run, 1)  # one more try
    with pytest.raises(JobFailedError):
        trained(settings, run)
    deaths.poison.clear()
    ending = trained(settings, run)
    assert ending.state.h_sha256() == trained(config(), tmp_path / "healthy").state.h_sha256()
    assert statuses(run) == [0] * POPULATION


def test_a_run_that_was_stopped_goes_on_at_once_when_such_members_are_to_rank_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = failing(tmp_path, monkeypatch, MEMBER)
    deaths, run = Deaths(monkeypatch), tmp_path / "run"
    settings = config('objective.on_failure="stop"')
    killed(settings, run, 3)
    with pytest.raises(JobFailedError):
        trained(settings, run)
    ending = trained(config('objective.on_failure="worst"'), run)
    assert ending.state.h_sha256() == wanted
    assert deaths.evaluated[MEMBER] == 3


def test_two_of_one_generation_and_the_center_are_found_one_after_the_other(
    deaths: Deaths, tmp_path: Path
) -> None:
    center = POPULATION + 1
    deaths.poison |= {8, center}
    run = tmp_path / "run"
    killed(config(), run, 9)
    assert trained(config(), run).finished
    assert [deaths.evaluated[row] for row in (MEMBER, 8, center)] == [3, 3, 3]
    assert [row for row, s in enumerate(statuses(run)) if s] == [MEMBER, 8]
    assert '"center_return": null' in (run / "metrics.jsonl").read_text().splitlines()[GENERATION]


@pytest.mark.parametrize("survivors_stop", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_survivors_find_it_out_with_three_ranks_and_go_on_to_the_same_h(
    batch: int, survivors_stop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = failing(tmp_path, monkeypatch, MEMBER)
    deaths, run = Deaths(monkeypatch), tmp_path / "run"
    deaths.batch = batch
    settings = config(f'objective.on_failure="{"stop" if survivors_stop else "worst"}"')
    outcomes = World(5, 2, {}).run(lambda comm: trained(settings, run, comm))
    left = [outcome for outcome in outcomes if not isinstance(outcome, KilledError)]
    assert len(left) == 2
    # a suspect is evaluated with no other beside it
    assert [len(rows) for rows in deaths.together[1:]] == [1, 1]
    if survivors_stop:
        assert all(isinstance(outcome, JobFailedError) for outcome in left), left
        causes = [str(outcome.__cause__) for outcome in left if outcome.__cause__]
        assert len(causes) == 1
        assert "member 5" in causes[0]
    else:
        assert [ending.state.h_sha256() for ending in left] == [wanted, wanted]
        assert np.flatnonzero(statuses(run)).tolist() == [MEMBER]
        assert trained(settings, run).state.h_sha256() == wanted  # nothing is left to do


def test_members_beside_it_are_evaluated_alone_to_the_same_bits_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = failing(tmp_path, monkeypatch, MEMBER)
    deaths, run = Deaths(monkeypatch), tmp_path / "run"
    deaths.batch = 4
    killed(config(), run, 3)
    assert deaths.together == [(4, 5, 6, 7), (5,), (5,)]
    assert trained(config(), run).state.h_sha256() == wanted
    # suspects that were cleared on the way were kept, and not evaluated again
    assert deaths.evaluated[4] == 2
    assert np.flatnonzero(statuses(run)).tolist() == [MEMBER]


def test_kills_from_outside_judge_no_member_that_was_not_alone_each_time(
    deaths: Deaths, tmp_path: Path
) -> None:
    """Somebody kills whatever runs, four times: another member is under way each time."""
    run = tmp_path / "run"
    for victim in (1, 4, 6, 9):
        deaths.poison = {victim}
        killed(config('objective.on_failure="stop"'), run, 1)
    deaths.poison = set()
    ending = trained(config('objective.on_failure="stop"'), run)
    assert ending.state.h_sha256() == trained(config(), tmp_path / "healthy").state.h_sha256()


def _crash(run: Path, settings: Config, deaths: Deaths, marks: dict[int, list[int]]) -> None:
    """A job of several ranks that died as a whole, with these rows under way by rank."""
    killed(settings, run, 1)
    identity = None
    for path in (run / "in_progress").glob("flight-*.bin"):
        identity = path.read_bytes()
        path.unlink()
    assert identity is not None
    for rank, rows in marks.items():
        data = bytearray(identity)
        head = len(data) - POPULATION - 3
        data[head:] = bytes(POPULATION + 3)
        for row in rows:
            data[head + row] = 1
        path_of(run / "in_progress", rank).write_bytes(data)


def test_a_job_that_died_as_a_whole_with_several_ranks_at_work_accuses_nobody_of_them_alone(
    deaths: Deaths, tmp_path: Path
) -> None:
    settings, run = config(), tmp_path / "run"
    deaths.poison = {*range(POPULATION)}  # whatever is drawn first
    for _ in range(4):
        _crash(run, settings, deaths, {0: [1], 1: [MEMBER], 2: [7]})
    key, *_ = {entry[0] for entry in losses._entries(run / "in_progress")}
    held = losses.read(run / "in_progress", key)
    assert {row: (one.losses, one.alone) for row, one in held.items()} == {
        1: (3, 0), MEMBER: (3, 0), 7: (3, 0),
    }  # fmt: skip
    # from the second time on they are evaluated one after the other, by one rank
    deaths.poison = set()
    evaluated: list[tuple[str, int]] = []
    before = ObjectiveEvaluator.fill

    def noted(self: Any, state: RunState, rows: Iterator[int], records: Any) -> None:
        def said() -> Iterator[int]:
            for row in rows:
                if state.generation == GENERATION:
                    evaluated.append((threading.current_thread().name, row))
                yield row

        before(self, state, said(), records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectiveEvaluator, "fill", noted)
        endings = World(3, 1, {}).run(lambda comm: trained(settings, run, comm))
    assert all(isinstance(ending, Ending) for ending in endings), endings
    assert [row for who, row in evaluated if row in (1, MEMBER, 7)] == [1, MEMBER, 7]
    assert {who for who, row in evaluated if row in (1, MEMBER, 7)} == {"rank 0"}
    assert endings[0].state.h_sha256() == trained(config(), tmp_path / "healthy").state.h_sha256()


def test_more_than_max_failed_share_of_such_members_end_the_run(
    deaths: Deaths, tmp_path: Path
) -> None:
    deaths.poison = {MEMBER, 2}
    settings = config("run.max_failed_share=0.1")
    killed(settings, tmp_path / "run", 6)
    with pytest.raises(JobFailedError) as failed:
        trained(settings, tmp_path / "run")
    assert "2 of 10 members" in str(failed.value.__cause__)
