"""Training in tests, in this process: on one rank or on the ranks of a communicator."""

from __future__ import annotations

from pathlib import Path

from esd.commands.console import Quiet
from esd.config.settings import Config
from esd.evolution.state import RunState
from esd.mpi.comm import Alone, Communicator
from esd.run.folder import RunFolder
from esd.training.loop import Ending
from esd.training.plan import Plan, TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from esd.training.survivors import surviving

SAFE_POINTS_OF_THE_START = 3


class StopInFirstGeneration(StopRequest):
    """A request to stop that comes while the first generation is evaluated, not at the start."""

    def __init__(self, wanted: bool = True) -> None:
        super().__init__()
        self._left = 1 + SAFE_POINTS_OF_THE_START if wanted else 0

    def renew(self) -> None:
        super().renew()
        self._left -= 1
        self.requested |= self._left == 0


def trained(
    config: Config,
    folder: Path,
    comm: Communicator | None = None,
    stop: StopRequest | None = None,
) -> Ending:
    """Train a config in a folder, as ``esd train`` does behind its command line; resumes what is there."""
    ranks = comm or Alone()
    return surviving(ranks, lambda: _planned_and_trained(config, folder, ranks, stop))


def _planned_and_trained(
    config: Config, folder: Path, comm: Communicator, stop: StopRequest | None
) -> Ending:
    checkpoint, journal = None, b""
    if comm.rank == 0 and RunFolder(folder).is_run:
        request = TrainRequest(run=folder)
        stored = make_plan(request, lambda text: None)
        checkpoint, journal = stored.checkpoint, stored.journal
    plan = Plan(config, folder, journal, checkpoint)
    plan = Plan.decode(comm.broadcast(plan.encode() if comm.rank == 0 else b"", "planning"))
    return train(comm, plan, stop or StopRequest(), Quiet())


def from_journal(folder: Path, generation: int | None = None) -> RunState:
    """Rebuild a state from h_0 and the journal alone."""
    run = RunFolder(folder)
    config = run.config()
    return run.state_at(generation, config, run.journal(config))
