"""Sixteen members at once: whole episodes of compiled environments, a lane of a vector for each member.

For small networks of the kinds ``hebbian`` and ``static``. Every lane has the bits of its member alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.episodes.environments import REPLAYS, Outcome
from esd.episodes.evaluator import Rows, Task, blaming
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.slots import UNSCALED
from esd.episodes.under_way import UnderWay, are_alike
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState
from esd.kernels import members, plastic
from esd.kernels.lanes import LANES, aligned_zeros

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

MOST_WEIGHTS = 4096  # of a network; beyond, sixteen of them leave the caches


def can_play(rollout: Rollout) -> bool:
    """Whether a rollout's members can be played so: small perceptrons in compiled environments with equal actions."""
    compiled = rollout.environments.all_compiled()
    network = getattr(rollout.policy, "network", None)
    if compiled is None or type(network) is not plastic.Network:
        return False
    sizes = network.settings[plastic.SIZES :]
    if int(np.sum(sizes[:-1] * sizes[1:])) > MOST_WEIGHTS:
        return False
    return all(one.has_lanes for one in compiled) and are_alike(compiled)


class SideBySide:
    """A player of sixteen members at once; see ``evaluator.Player``."""

    same_bits = True

    def __init__(self, rollout: Rollout, algorithm: Algorithm, ranks: int) -> None:
        """Play an algorithm's members with a rollout's environments and policy.

        Args:
            rollout: for which ``can_play`` is true.
            algorithm: whose members are played.
            ranks: how many share the rows.
        """
        self._rollout, self._rows, self._ranks = rollout, Rows(rollout, algorithm), ranks
        environments = rollout.environments
        compiled = environments.all_compiled()
        assert compiled is not None
        self._tables, self._squashed = compiled[0].tables, compiled[0].decode.squashed
        policy: Any = rollout.policy
        self._policy, self._network = policy, policy.network
        self._networks = members.networks(self._network.settings, aligned_zeros)
        self._under_way = UnderWay(rollout.config, environments, lambda lane: compiled, LANES)
        slots = self._under_way.slots
        seen = np.zeros(environments.interface.observation_size, np.float32)
        self._seen = (slots.shown, seen, slots.action, slots.reward)
        # of each lane's network at the beginning of every episode of its member
        self._weights: dict[int, list[Float32s]] = {}
        self._replays_left = REPLAYS

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """See ``Player.fill``."""
        self._rollout.use_statistics(state.observations)
        tasks = (self._rows.task(state, row, records) for row in rows)
        # of all rows each rank takes its part, not the first one sixteen
        most = max(1, min(LANES, len(records.table) // self._ranks))
        for task, outcome, observed in self._played(state, tasks, most, None):
            self._rows.write(records, state, task, outcome, observed)

    def rehearse(
        self, state: RunState, member: int, seeds: list[EpisodeSeeds], limit: int
    ) -> list[Outcome]:
        """See ``Player.rehearse``."""
        self._rollout.use_statistics(state.observations)
        tasks = (Task(row, member, seeds) for row in range(LANES + 1))
        return [outcome for _, outcome, _ in self._played(state, tasks, LANES, limit)]

    def close(self) -> None:
        """Nothing of its own."""

    def _played(
        self, state: RunState, tasks: Iterable[Task], most: int, limit: int | None
    ) -> Iterator[tuple[Task, Outcome, Float64s | None]]:
        """Play tasks in at most so many lanes, each as soon as one is free.

        Yields:
            A task that has been played, what it gave, and its observations' sums.
        """
        scale = self._rollout.environments.scale or UNSCALED
        waiting = iter(tasks)
        under_way, slots = self._under_way, self._under_way.slots
        under_way.members.clear()
        slots.playing[...] = 0
        free = list(range(most))
        while True:
            while free and (task := next(waiting, None)) is not None:
                lane = free.pop()
                with blaming(state, task):
                    self._take(state, task, lane)
                    self._begin(lane, limit)
            if not under_way.members:
                return
            members.play(
                slots.addresses,
                slots.bounds,
                slots.body,
                self._seen,
                self._tables,
                self._squashed,
                scale,
                slots.sums,
                self._networks,
                slots.progress,
            )
            for lane in under_way.ended():
                task = under_way.members[lane].task
                if under_way.end_episode(lane):
                    with blaming(state, task):
                        self._begin(lane, limit)
                    continue
                free.append(lane)
                _, outcome, observed = under_way.remove(lane)
                if outcome.status is not Status.DONE and self._replays_left:
                    self._replays_left -= 1  # once more alone, to say why: the same bits
                    with blaming(state, task):
                        self._rollout.load(self._rows.pieces(state, task))
                        outcome = self._rollout.play(task.seeds, limit)
                yield task, outcome, observed

    def _take(self, state: RunState, task: Task, lane: int) -> None:
        """Give a lane to a member, whose weights at the beginning of every episode are kept."""
        self._rollout.load(self._rows.pieces(state, task))
        synapses, settings = self._network.synapses, self._network.settings
        members.place_coefficients(synapses, settings, self._networks, lane)
        weights = []
        for seeds in task.seeds:
            self._policy.reset(seeds.policy)
            weights.append(synapses.reshape(-1, settings[plastic.STREAMS], LANES)[:, 0].flatten())
        self._weights[lane] = weights
        self._under_way.take(lane, task)

    def _begin(self, lane: int, limit: int | None) -> None:
        """Begin a lane's next episode."""
        weights = self._weights[lane][self._under_way.next_episode(lane)]
        members.begin_lane(weights, self._network.settings, self._networks, lane)
        self._under_way.begin(lane, limit)
