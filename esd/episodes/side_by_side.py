"""Sixteen members at once: whole episodes of compiled environments, a lane of a vector for each member.

For small networks of the kinds ``hebbian`` and ``static``. Every lane has the bits of its member alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.episodes.compiled_episodes import CompiledEpisodes
from esd.episodes.environments import REPLAYS, UNSCALED, Outcome, outcome_of
from esd.episodes.evaluator import Rows, Task, blaming
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
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
    first = compiled[0]
    return all(
        one.has_lanes
        and one.shown.dtype == first.shown.dtype
        and [table.tolist() for table in one.tables] == [table.tolist() for table in first.tables]
        for one in compiled
    )


@dataclass
class _Lane:
    """A member that is being played.

    Attributes:
        task: whose episodes these are.
        weights: of its network at the beginning of each.
        played: episodes so far.
        totals, counts: of returns and episodes on each variant.
        steps, observations: so far.
        before: the sums of observations at the beginning of the episode.
    """

    task: Task
    weights: list[Float32s]
    totals: list[float]
    counts: list[int]
    played: int = 0
    steps: int = 0
    observations: int = 0
    before: Float64s = field(default_factory=lambda: np.empty(0))


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
        self._compiled: list[CompiledEpisodes] = compiled
        policy: Any = rollout.policy
        self._policy, self._network = policy, policy.network
        self._networks = members.networks(self._network.settings, aligned_zeros)
        size = environments.interface.observation_size
        self._addresses = np.zeros(LANES, np.int64)
        self._bounds = np.zeros((LANES, 4), np.int64)
        widths = [max(one.arrays[i].size for one in compiled) for i in (0, 1)]
        self._body = np.zeros((LANES, max(1, widths[0]))), np.zeros((LANES, max(1, widths[1])))
        self._seen = (
            np.zeros((LANES, size), compiled[0].shown.dtype),
            np.zeros(size, np.float32),
            np.zeros(compiled[0].decode.action_size, np.float32),
            np.zeros(1),
        )
        self._sums = np.zeros((LANES, 2, size))
        self._counts, self._totals = np.zeros((3, LANES), np.int64), np.zeros(LANES)
        self._lanes: list[_Lane | None] = [None] * LANES
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
        environments = self._rollout.environments
        scale = environments.scale or UNSCALED
        waiting = iter(tasks)
        self._counts[...] = 0
        self._lanes = [None] * LANES
        free, playing = list(range(most)), 0
        while True:
            while free and (task := next(waiting, None)) is not None:
                lane = free.pop()
                with blaming(state, task):
                    self._take(state, task, lane)
                    self._begin(lane, limit)
                playing += 1
            if not playing:
                return
            members.play(
                self._addresses,
                self._bounds,
                self._body,
                self._seen,
                self._compiled[0].tables,
                self._compiled[0].decode.squashed,
                scale,
                self._sums,
                self._networks,
                (self._counts, self._totals),
            )
            for lane, one in enumerate(self._lanes):
                if one is None or self._counts[0, lane]:
                    continue
                self._end_episode(lane, one)
                if one.played < len(one.task.seeds):
                    with blaming(state, one.task):
                        self._begin(lane, limit)
                    continue
                self._lanes[lane] = None
                free.append(lane)
                playing -= 1
                outcome, observed = self._outcome(lane, one)
                if outcome.status is not Status.DONE and self._replays_left:
                    self._replays_left -= 1  # once more alone, to say why: the same bits
                    with blaming(state, one.task):
                        self._rollout.load(self._rows.pieces(state, one.task))
                        outcome = self._rollout.play(one.task.seeds, limit)
                yield one.task, outcome, observed

    def _take(self, state: RunState, task: Task, lane: int) -> None:
        """Give a lane to a member, whose weights at the beginning of every episode are kept."""
        self._rollout.load(self._rows.pieces(state, task))
        synapses, settings = self._network.synapses, self._network.settings
        members.place_coefficients(synapses, settings, self._networks, lane)
        weights = []
        for seeds in task.seeds:
            self._policy.reset(seeds.policy)
            weights.append(synapses.reshape(-1, settings[plastic.STREAMS], LANES)[:, 0].flatten())
        variants = len(self._compiled)
        self._lanes[lane] = _Lane(task, weights, [0.0] * variants, [0] * variants)
        self._sums[lane] = 0.0

    def _begin(self, lane: int, limit: int | None) -> None:
        """Begin a lane's next episode."""
        one = self._lanes[lane]
        assert one is not None
        seeds, weights = one.task.seeds[one.played], one.weights[one.played]
        compiled = self._compiled[seeds.variant]
        members.begin_lane(weights, self._network.settings, self._networks, lane)
        parameters, state = (array[lane] for array in self._body)
        compiled.begin_lane(seeds.environment, parameters, state, self._seen[0][lane])
        self._addresses[lane] = compiled.step_address
        steps = self._rollout.environments.step_limit(seeds.variant)
        config = self._rollout.config
        doubles = compiled.double and self._rollout.environments.scale is not None
        self._bounds[lane] = (
            min(steps, limit or steps),
            config.env.stop_after_negative,
            config.format > 1,
            doubles,
        )
        self._counts[:, lane] = 1, 0, 0
        self._totals[lane] = 0.0
        one.before = self._sums[lane].copy()

    def _end_episode(self, lane: int, one: _Lane) -> None:
        """Count an episode that has ended."""
        variant = one.task.seeds[one.played].variant
        total, steps = float(self._totals[lane]), int(self._counts[1, lane])
        one.totals[variant] += total
        one.counts[variant] += 1
        one.steps += steps
        one.played += 1
        if math.isfinite(total):
            one.observations += steps
        else:
            self._sums[lane] = one.before

    def _outcome(self, lane: int, one: _Lane) -> tuple[Outcome, Float64s | None]:
        """What a member's episodes gave, as ``Environments.play`` and ``observed`` have it."""
        outcome = outcome_of(one.task.seeds, one.totals, one.counts, one.steps, one.observations)
        if not self._rollout.config.env.normalize_observations:
            return outcome, None
        return outcome, np.concatenate([[float(one.observations)], *self._sums[lane]])
