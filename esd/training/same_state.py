"""Whether all nodes still have the same state: bits that flip in one node's memory change everything that follows.

No h travels (law 3), so every node repeats the same update, and nothing of an ordinary exchange would show that one of
them has computed something else. In every ``run.compare_nodes_every``-th generation the nodes exchange a hash.
"""

from __future__ import annotations

import contextlib

import numpy as np

from esd.errors import EsdError, RunError, one_line
from esd.evolution.state import RunState
from esd.mpi.comm import agreement, gather, raise_if_any_failed
from esd.mpi.team import Team
from esd.mpi.texts import node_names
from esd.run import checkpoint
from esd.run.checkpoint import Checkpoint
from esd.run.folder import RunFolder


class NodesDisagreeError(RunError):
    """Two nodes have different states of one generation."""


class SameState:
    """Compares the nodes' states.

    Args:
        team: all ranks.
        folder: of the run, where different states are kept.
        identity: of the run's settings.
        every: generations between two comparisons; 0: never.
    """

    def __init__(self, team: Team, folder: RunFolder, identity: str, every: int) -> None:
        """Nothing is compared yet."""
        self._team, self._folder, self._identity = team, folder, identity
        alone = gather(team.ranks, int(team.node.size < team.ranks.size), "looking for other nodes")
        self._every = every if alone.any() else 0
        self._agreed = -1  # the last generation in which all were the same

    def check(self, generation: int, state: RunState | None) -> None:
        """Compare the states of a generation, if it is one in which they are; every rank has to call.

        Args:
            generation: that comes next.
            state: before it; None on a node that could not make it.

        Raises:
            JobFailedError: on all ranks, if two nodes have different states.
        """
        if not self._every or generation % self._every:
            return
        own = 0
        if state is not None and self._team.node.rank == 0:
            own = int(state.sha256()[:16], 16) or 1
        hashes = gather(self._team.ranks, own, "comparing the nodes' states")
        if len({int(found) for found in hashes if found}) < 2:
            self._agreed = generation
            return
        self._stop(generation, state if own else None, hashes)

    def _stop(self, generation: int, state: RunState | None, hashes: np.ndarray) -> None:
        """Keep the states, and end on all ranks."""
        comm = self._team.ranks
        kept = self._keep(generation, state)
        with agreement(comm, "removing checkpoints that may be wrong"):
            if comm.rank == 0:
                self._set_checkpoints_aside()
        failures = gather(comm, int(bool(kept)), "keeping the nodes' states")
        names = node_names(comm)
        found = [
            f"{names[rank]} (rank {rank}) {int(value):016x}"
            for rank, value in enumerate(hashes)
            if value
        ]
        since = f"since generation {self._agreed}" if self._agreed >= 0 else "from the start"
        where = f"in {self._folder.disagreement}"
        if failures.any():
            where += (
                f", but for those of {int(np.sum(failures != 0))} nodes, which could not be written"
            )
        error = NodesDisagreeError(
            f"generation {generation}: nodes have computed different states {since}, with the hashes "
            f"{one_line(', '.join(found))}. One of them has a fault, most likely in its memory. Their states are "
            f"{where}. Resume without that node: checkpoints that may be wrong are moved aside, and h is rebuilt "
            "from the journal; fitnesses that the node measured in the meantime may be wrong"
        )
        raise_if_any_failed(comm.rank, np.ones(comm.size, np.uint64), error)

    def _keep(self, generation: int, state: RunState | None) -> str:
        """Write this node's state; returns why that was not possible."""
        if state is None:
            return ""
        name = f"generation-{generation:06d}-rank-{self._team.ranks.rank}.safetensors"
        try:
            self._folder.disagreement.mkdir(exist_ok=True)
            checkpoint.save(self._folder.disagreement / name, Checkpoint(self._identity, state))
        except (OSError, EsdError) as error:
            return one_line(str(error))
        return ""

    def _set_checkpoints_aside(self) -> None:
        """Leave only checkpoints of generations in which all nodes agreed: a resume rebuilds what follows."""
        folder = self._folder
        last = "" if self._agreed < 0 else folder.checkpoint_file(self._agreed).name
        newer = [path for path in folder.checkpoint_files() if path.name > last]
        with contextlib.suppress(EsdError):  # there is none
            if checkpoint.load(folder.best_file).state.generation > self._agreed:
                newer.append(folder.best_file)
        try:
            folder.disagreement.mkdir(exist_ok=True)
            for path in newer:
                path.replace(folder.disagreement / path.name)
        except OSError as error:
            raise RunError(f"{folder.path}: {error.strerror}: {error.filename}") from error
