"""Law 6 on any number of ranks: whatever its folder has lost, a run goes on to the same h, or all ranks say why not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from mpi4py import MPI

from esd.commands.console import Quiet
from esd.errors import UsageError
from esd.mpi.comm import Alone, Communicator, JobFailedError, Ranks, agreement
from esd.run import checkpoint, journal
from esd.run.checkpoint import Checkpoint
from esd.run.journal import JournalContents
from esd.training import replay
from esd.training.loop import Ending
from esd.training.plan import Plan, TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import small
from tests.helpers.training import from_journal, trained
from tests.run.test_recovery import of_another_size

CONFIG = small(
    "pendulum", "env.normalize_observations=true", "run.checkpoint_every=3", "es.optimizer=adam"
)


def begun(world: Communicator, folder: Path) -> str:
    """A run of 5 generations in ``run``; the hash of h of one of 8 that was never stopped."""
    wanted = ""
    if world.rank == 0:
        trained(CONFIG, folder / "run")
        whole = trained(dataclasses.replace(CONFIG, generations=8), folder / "whole")
        wanted = whole.state.sha256()
    return world.broadcast(wanted.encode(), "the reference").decode()


def resumed(
    world: Communicator, run: Path, change: Callable[[Plan], Plan] = lambda plan: plan
) -> Ending:
    """Go on to 8 generations on all ranks; ``change`` makes a rank's own plan another."""
    encoded = b""
    if world.rank == 0:
        encoded = make_plan(TrainRequest(run=run, settings=["generations=8"]), print).encode()
    plan = Plan.decode(world.broadcast(encoded, "planning"))
    return train(world, change(plan), StopRequest(), Quiet())


def cut_metrics(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*lines[:2], "spoiled\n", *lines[3:4]]))


def lose_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def change_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").glob("generation-*"):
        good = checkpoint.load(path)
        checkpoint.save(path, Checkpoint(good.identity, of_another_size(good.state)))


@pytest.mark.mpi
@pytest.mark.parametrize("damage", [cut_metrics, lose_checkpoints, change_checkpoints])
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_a_damaged_folder_goes_on_to_the_same_state(
    damage: Callable[[Path], None],
    piece: int,
    world: Communicator,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "PIECE", piece)
    wanted = begun(world, folder)
    if world.rank == 0:
        damage(folder / "run")
    assert resumed(world, folder / "run").state.sha256() == wanted
    with agreement(world, "looking into the folder"):
        if world.rank == 0:
            assert from_journal(folder / "run").sha256() == wanted
            totals = [
                [
                    (json.loads(line)["generation"], json.loads(line)["env_steps"])
                    for line in (folder / name / "metrics.jsonl").read_text().splitlines()
                ]
                for name in ("run", "whole")
            ]
            assert totals[0] == totals[1]


@pytest.mark.mpi
def test_a_node_that_does_not_see_the_checkpoint_replays_the_journal_of_rank_0(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "node", lambda self: Alone().node())  # every rank a node of its own
    wanted = begun(world, folder)
    last = world.rank == world.size - 1
    ending = resumed(
        world,
        folder / "run",
        lambda plan: dataclasses.replace(plan, checkpoint=None) if last else plan,
    )
    assert ending.state.sha256() == wanted


class Counting(Ranks):
    """Keeps the sizes of what is broadcast."""

    sizes: list[int]

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Count it."""
        found = super().broadcast(text, what)
        self.sizes.append(len(found))
        return found


@pytest.mark.mpi
def test_ranks_get_what_follows_the_checkpoint_in_pieces(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PIECE", 256)
    begun(world, folder)
    counting = Counting(MPI.COMM_WORLD, deadline_seconds=120.0)
    counting.sizes = []
    if world.rank == 0:
        (folder / "run/checkpoints/generation-00000005.safetensors").unlink()
    resumed(counting, folder / "run")
    plan, *pieces = counting.sizes
    assert plan < 6_000
    if world.size > 1:
        # generations 3 and 4 follow the checkpoint, and the center of 5; of 14 members, with center episodes in 4
        cells = (14 + 14 + 3 + 3) * (6 + 1 + 2 * 3)
        assert sum(pieces) == 8 * cells
        assert max(pieces) <= 256


@pytest.mark.mpi
def test_a_journal_that_cannot_be_read_on_rank_0_ends_all_ranks(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(world, folder)
    if world.rank == 0:
        lose_checkpoints(folder / "run")
        good = JournalContents.entries

        def entries(
            contents: JournalContents, start: int = 0, stop: int | None = None
        ) -> Iterator[object]:
            for number, entry in enumerate(good(contents, start, stop)):
                if number == 2:
                    raise UsageError("journal.bin: can't be read (Input/output error)")
                yield entry

        monkeypatch.setattr(JournalContents, "entries", entries)
    with pytest.raises(JobFailedError) as caught:
        resumed(world, folder / "run")
    assert caught.value.exit_code == 2
    assert (world.rank == 0) == ("Input/output" in str(caught.value.__cause__))
    monkeypatch.undo()
    if world.rank == 0:
        assert journal.scan(folder / "run" / "journal.bin").next_generation == 5


@pytest.mark.mpi
def test_a_checkpoint_written_after_a_resume_is_the_state_itself(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process reads a checkpoint's arrays in another order; the ranks of a node share memory by their names."""
    begun(world, folder)
    load = safetensors.numpy.load

    def in_an_order_of_its_own(data: bytes) -> dict[str, np.ndarray]:
        return dict(sorted(load(data).items(), reverse=world.rank % 2 == 1))

    monkeypatch.setattr(safetensors.numpy, "load", in_an_order_of_its_own)
    for generations in range(6, 8):
        encoded = b""
        if world.rank == 0:
            settings = [f"generations={generations}"]
            encoded = make_plan(TrainRequest(run=folder / "run", settings=settings), print).encode()
        plan = Plan.decode(world.broadcast(encoded, "planning"))
        ending = train(world, plan, StopRequest(), Quiet())
        wanted = from_journal(folder / "run").sha256()
        assert ending.state.sha256() == wanted
        world.broadcast(b"", "taking turns")
