"""h and the algorithm's other vectors once per node, and the update that the node's ranks make together.

There are two buffers of everything, each slice of them stamped with its generation: the update reads t and writes
t + 1, so any slice can be made again, and nobody reads t + 1 before all ranks of the node have said that their slice is
there.
Every node repeats the same arithmetic, because sending h would break law 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.evolution.algorithm import Algorithm, EvolutionState
from esd.evolution.halves import SUMS, Halves, agreement
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records
from esd.evolution.state import RunState, observed
from esd.evolution.vectors import Whole, pieces
from esd.kernels.reduce import REDUCTION_BLOCK, block_sums_of_squares, in_order
from esd.mpi.comm import exit_code_of, gather
from esd.mpi.team import Team

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

ROWS = 32  # of partial sums of blocks that ranks show each other at once
_AREAS = 2  # by turns: a rank may be one meeting ahead of one that still reads
NEVER = -1  # the stamp of a slice that is being written


class UpdateFailedError(Exception):
    """Some rank of this node could not make its slice.

    Attributes:
        reason: on that rank; None on the others.
    """

    def __init__(self, reason: Exception | None) -> None:
        """Remember why."""
        super().__init__("the update of h failed on a rank of this node")
        self.reason = reason


@dataclass(frozen=True)
class Step:
    """One update.

    Attributes:
        state: after it.
        h_norm: ‖h‖ after it; NaN or infinite if h is.
        update_norm: ‖h_{t+1} − h_t‖.
        gradient_agreement: cosine between the gradients of the two halves of the population (``evolution.halves``);
            None if the algorithm doesn't show them, or one is 0.
    """

    state: RunState
    h_norm: float
    update_norm: float
    gradient_agreement: float | None = None


class NodeState:
    """The state of a run in the memory of a node.

    Args:
        team: whose node has the memory.
        algorithm: makes the updates.
        state: to start from, the same on all of them; its arrays are copied.

    Raises:
        RunError: on all ranks of the node, if there is not enough memory.
    """

    def __init__(self, team: Team, algorithm: Algorithm, state: RunState) -> None:
        """Reserve memory and put the state into it."""
        node = self._node = team.node
        self._algorithm = algorithm
        # sorted: a checkpoint is read in another order by every process, and all of a node must mean the same memory
        size, names = state.h.size, sorted(state.evolution.named())
        blocks = -(-size // REDUCTION_BLOCK)
        own = (blocks * node.rank // node.size, blocks * (node.rank + 1) // node.size)
        self._blocks = slice(*own)
        self._part = slice(*(min(block * REDUCTION_BLOCK, size) for block in own))
        vectors = 2 * len(names)
        stamps, partials_at = 2 * node.size, 8 * 2 * node.size
        floats_at = partials_at + 8 * _AREAS * ROWS * blocks
        self._memory = team.memory(
            floats_at + 4 * vectors * size, "h and the algorithm's other vectors"
        )
        self._stamps = np.frombuffer(self._memory, np.int64, stamps).reshape(2, node.size)
        partials = np.frombuffer(self._memory, np.float64, _AREAS * ROWS * blocks, partials_at)
        floats = np.frombuffer(self._memory, np.float32, vectors * size, floats_at)
        self._partials = partials.reshape(_AREAS, ROWS, blocks)
        self._area = 0
        self._vectors = [
            dict(zip(names, buffer, strict=True)) for buffer in floats.reshape(2, len(names), size)
        ]
        self._whole = Whole(size, self._gather)
        self.state = self._adopt(state)
        self._before: RunState | None = None

    def _adopt(self, state: RunState) -> RunState:
        """Copy a state into its buffer, each rank its slice."""
        buffer = self._vectors[state.generation & 1]
        for name, vector in state.evolution.named().items():
            buffer[name][self._part] = vector[self._part]
        self._stamps[:, self._node.rank] = NEVER
        self._stamps[state.generation & 1, self._node.rank] = state.generation
        self._meet(None)
        return self._view(state.generation, state.evolution.scalars, state.observations)

    def _view(
        self, generation: int, scalars: dict[str, float], observations: ObservationStatistics
    ) -> RunState:
        """A state whose vectors are the node's."""
        vectors = dict(self._vectors[generation & 1])
        evolution = EvolutionState(generation, vectors.pop("h"), vectors, scalars)
        return RunState(evolution, observations)

    def advance(self, records: Records) -> Step:
        """Make state_{t+1} from the records of generation t, together with the other ranks of the node.

        The state before stays as it is until the next call.

        Raises:
            UpdateFailedError: on all ranks of the node, if any failed.
        """
        state, t = self.state, self.state.generation
        if not records.members:
            h = state.h[self._part]
            return Step(state, self._whole.norm(h), 0.0)
        after = self._vectors[(t + 1) & 1]
        error: Exception | None = None
        scalars: dict[str, float] = {}
        norms: Float64s = np.empty((2 + SUMS, 0))
        try:
            if (self._stamps[t & 1] != t).any():
                raise RuntimeError(f"generations {self._stamps[t & 1]} are where {t} should be")
            self._stamps[(t + 1) & 1, self._node.rank] = NEVER
            with np.errstate(over="ignore", invalid="ignore"):  # seen in the norm, and told better
                fitness = records.fitness(self._algorithm.reduction)
                halves = Halves(self._part.stop - self._part.start)
                scalars = self._algorithm.tell_slice(
                    state.evolution, fitness, self._part, after, self._gather, halves
                )
                norms = self._sum_up(after["h"], state.h, halves)
            self._stamps[(t + 1) & 1, self._node.rank] = t + 1
        except UpdateFailedError:  # met already, in a sum
            raise
        except Exception as caught:
            error = caught
        self._meet(error)
        self._before = state
        self.state = self._view(t + 1, scalars, observed(state, records))
        h_square, update_square, *of_halves = (in_order(row) for row in norms)
        return Step(self.state, math.sqrt(h_square), math.sqrt(update_square), agreement(of_halves))

    def state_at(self, generation: int) -> RunState:
        """The state of a generation, as long as it is there: the last one, or the one before."""
        for state in (self.state, self._before):
            if state is not None and state.generation == generation:
                return state
        raise RuntimeError(f"state {generation} is asked for, and {self.state.generation} is here")

    def moved(self, team: Team, generation: int) -> NodeState:
        """The state of a generation in memory of the ranks that are left; every rank of the team has to call.

        The memory of before stays as it is: another rank may be lost meanwhile.

        Raises:
            RunError: see ``NodeState``.
        """
        return NodeState(team, self._algorithm, self.state_at(generation))

    def replay(self, entries: Iterable[tuple[int, Records]]) -> None:
        """Go on from the state by the records of the generations that follow it, without an episode.

        Args:
            entries: generations and their records, in order; those before the state are ignored.

        Raises:
            UpdateFailedError: see ``advance``.
        """
        for generation, records in entries:
            if generation >= self.state.generation:
                self.advance(records)

    def _sum_up(self, h: Float32s, before: Float32s, halves: Halves) -> Float64s:
        """Leave this slice's part of ‖h‖², of the update's square and of the halves' sums where all ranks see it."""
        rows, block = self._next_area()[: 2 + SUMS], self._blocks.start
        rows[2:, self._blocks] = halves.partials
        for piece in _pieces_of(self._part):
            sums = block_sums_of_squares(h[piece])
            here = slice(block, block + sums.size)
            rows[0, here] = sums
            rows[1, here] = block_sums_of_squares(h[piece] - before[piece])
            block += sums.size
        return rows

    def _gather(self, partials: Float64s) -> Float64s:
        """Every rank's partials of blocks, float64 [k, blocks], from one's own; valid until the next but one call."""
        shown = []
        for start in range(0, len(partials), ROWS):
            some = partials[start : start + ROWS]
            rows = self._next_area()[: len(some)]
            rows[:, self._blocks] = some
            self._meet(None)
            shown.append(rows if len(partials) <= ROWS else rows.copy())
        return shown[0] if len(shown) == 1 else np.concatenate(shown)

    def _next_area(self) -> Float64s:
        """Room for partial sums that nobody reads any more."""
        self._area = (self._area + 1) % _AREAS
        area: Float64s = self._partials[self._area]
        return area

    def _meet(self, error: Exception | None) -> None:
        """Wait until all ranks of the node are here; fail on all of them if one has failed."""
        if gather(self._node, exit_code_of(error), "the update of h").any():
            raise UpdateFailedError(error) from error


def _pieces_of(part: slice) -> Iterator[slice]:
    """A slice of h in pieces that fit the cache; they start on blocks."""
    for piece in pieces(part.stop - part.start):
        yield slice(part.start + piece.start, min(part.start + piece.stop, part.stop))
