"""What the ranks that are left do when one is lost: go on with the same generation, to the same bits.

They meet again under new numbers, go back to the lowest generation among them (they differ by one at most, and the one
before is still in every node's memory), and compare hashes of it. If any of them, or the journal, has that generation's
whole records, all make its update again. Then they count what is done of the generation under way, and draw only rows
that nobody has. If another rank is lost meanwhile, all of it is done again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from esd.errors import RunError
from esd.evolution.records import WRITERS, Records
from esd.mpi.comm import (
    Communicator,
    RankLostError,
    agreement,
    exit_code_of,
    gather,
    in_time,
    raise_if_any_failed,
)
from esd.training.commit import Commit
from esd.training.loop import Generations, Votes, Work
from esd.training.reports import Reporter, Timing

WHAT = "the recovery from a lost rank"
# Why a call ends that need not be found out again; after the last generation the center is evaluated again instead.
KEPT_REASONS = ("", "target_return", "signal", "max_hours")


Result = TypeVar("Result")


class StartOverError(BaseException):
    """Some of the ranks that are left were still starting, so all start again; nothing was evaluated yet."""


def surviving(comm: Communicator, training: Callable[[], Result]) -> Result:
    """Plan and carry out a training; when a rank is lost before the first generation, start again with the others.

    Args:
        comm: all ranks; each has to call.
        training: what they do, from the plan to the end.
    """
    while True:
        try:
            return training()
        except StartOverError:
            continue
        except RankLostError:
            if not comm.survives:
                raise
        while True:
            try:
                comm.recover()
                _all_are_training(comm, False)
                break
            except RankLostError:
                continue


def _all_are_training(comm: Communicator, this_one: bool) -> bool:
    """Whether all ranks that are left had begun with the generations; the first that they ask each other."""
    return bool(gather(comm, int(this_one), WHAT).all())


def when_a_rank_is_lost(
    take_over: Callable[[], Commit], reporter: Reporter
) -> Callable[[Generations, RankLostError], None]:
    """What a run does when a rank is lost.

    Args:
        take_over: opens the run's folder on a new rank 0.
        reporter: is told what happened.
    """

    def recover(generations: Generations, loss: RankLostError) -> None:
        team = generations.team
        if not team.ranks.survives:
            raise loss
        size = team.ranks.size
        while True:
            try:
                team.leave(loss)
                team.ranks.recover()
                if not _all_are_training(team.ranks, True):
                    raise StartOverError
                team.join()
                with in_time(team.ranks, WHAT):
                    _meet_again(generations, take_over)
                break
            except RankLostError as again:
                loss = again
        work = generations.work
        assert work is not None
        lost = size - team.ranks.size
        reporter.note(
            f"lost {lost} of {size} ranks; {team.ranks.size} continue with generation {work.generation}, of which "
            f"{work.to_do.count} of {len(work.own.table)} evaluations are left"
        )

    return recover


def _meet_again(run: Generations, take_over: Callable[[], Commit]) -> None:
    """Bring all ranks that are left to the same generation, and find out what is missing of it.

    Raises:
        RankLostError: if another one is lost.
        JobFailedError: on all of them, if one had failed already, or what they have is not the same.
    """
    comm = run.team.ranks
    raise_if_any_failed(comm.rank, gather(comm, exit_code_of(run.error), WHAT), run.error)
    run.halted = False
    lowest = int(gather(comm, run.memory.state.generation, WHAT).min())
    _compare(comm, int(run.memory.state_at(lowest).sha256()[:16], 16), lowest)
    with agreement(comm, WHAT):
        run.memory = run.memory.moved(run.team, lowest)
    with agreement(comm, WHAT):
        if comm.rank == 0 and run.commit is None:
            run.commit = take_over()
            if run.last is not None and run.last.generation < lowest and run.last.kept is not None:
                run.last.kept(run.commit)  # rank 0 may have died before it did
        whole = _whole_records(run, lowest)
    holders = np.flatnonzero(gather(comm, int(whole is not None), WHAT))
    if holders.size:
        _finish(run, lowest, whole if comm.rank == holders[0] else None)
    _count_what_is_done(run)
    reason = KEPT_REASONS.index(run.reason) if run.reason in KEPT_REASONS else 0
    run.reason = KEPT_REASONS[int(gather(comm, reason, WHAT).max())]


def _compare(comm: Communicator, digest: int, generation: int) -> None:
    """End on all ranks if their states differ."""
    digests = gather(comm, digest, WHAT)
    if (digests != digests[0]).any():
        error = RunError(
            f"after the loss of a rank, the states of generation {generation} differ between ranks; this generation "
            "was discarded. Run the same command again to resume from the journal"
        )
        raise_if_any_failed(comm.rank, np.ones(comm.size, np.uint64), error)


def _whole_records(run: Generations, generation: int) -> Records | None:
    """All records of a generation's members, if this rank has them; of those in the journal rank 0 has them."""
    if run.commit is not None:
        journalled = run.commit.members_of(generation)
        if journalled is not None:
            return journalled
    for work in (run.work, run.last):
        if work is not None and work.generation == generation and work.own.members:
            return work.whole
    return None


def _finish(run: Generations, generation: int, whole: Records | None) -> None:
    """Make the update of a generation again whose records one rank has; the others get them from it."""
    comm, ahead = run.team.ranks, run.work
    work = run.empty_work(generation)
    if whole is not None:
        work.own.table[...] = whole.table
    table = work.own.table.copy()
    comm.sum(table.reshape(-1), WHAT)
    work.whole = Records.of_table(table, work.own.members, work.own.variants)
    run.work = work
    try:
        run.finish(Votes(0, 0, Timing(1.0, float(comm.size), comm.size)))
    finally:
        if ahead is not None and ahead.generation > generation:
            run.work = ahead  # what it has evaluated already holds


def _count_what_is_done(run: Generations) -> None:
    """Leave only those rows to be drawn that nobody has, and that lost ranks have not kept on disk."""
    comm, state, work = run.team.ranks, run.memory.state, run.work
    if work is None or work.generation != state.generation:
        work = run.empty_work(state.generation)
    writers = work.own.table[:, WRITERS].copy()
    comm.sum(writers, WHAT)
    missing = writers == 0
    to_do = run.finished_rows.go_on(state, work.own, missing, work.begun)
    run.work = Work(state.generation, work.own, to_do, begun=True)
