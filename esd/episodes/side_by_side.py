"""Sixteen members at once: whole episodes of compiled environments, a lane of a vector for each member.

For small networks of the kinds ``hebbian`` and ``static``. Every lane has the bits of its member alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.episodes.compiled_episodes import CompiledEpisodes
from esd.episodes.environments import REPLAYS, Outcome
from esd.episodes.evaluator import OF_ONE_MEMBER, Rows, Task, blaming
from esd.episodes.lane_loading import Given, make_loader
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.slots import UNSCALED
from esd.episodes.tally import Tally
from esd.episodes.under_way import are_alike
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState
from esd.kernels import members, plastic
from esd.kernels.lanes import LANES, aligned_zeros

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

MOST_WEIGHTS = 4096  # of a network; beyond, sixteen of them leave the caches
PREPARED = 8  # of a lane's episodes at once: bounds the memory for their first weights
FREE_AT_ONCE = 4  # lanes wait for others: a return to Python takes as long as many steps


def can_play(rollout: Rollout) -> bool:
    """Whether a rollout's members can be played so: small perceptrons in compiled environments with equal actions."""
    compiled = rollout.environments.all_compiled()
    network = getattr(rollout.policy, "network", None)
    if compiled is None or type(network) is not plastic.Network:
        return False
    if (
        rollout.config.env.episode_seconds is not None
    ):  # of episodes that are played together nobody knows whose it is
        return False
    sizes = network.settings[plastic.SIZES :]
    if int(np.sum(sizes[:-1] * sizes[1:])) > MOST_WEIGHTS:
        return False
    return all(one.has_lanes for one in compiled) and are_alike(compiled)


class _Lane(Tally):
    """A member that is being played.

    Attributes:
        prepared: episodes that have been prepared so far.
        failed: what it gave, if its environment could not begin one of them; whatever is played counts for nothing.
    """

    prepared = 0
    failed: Outcome | None = None


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
        network: plastic.Network = policy.network
        self._networks = members.networks(network.settings, aligned_zeros)
        widths = [max(1, *(one.arrays[i].size for one in compiled)) for i in (0, 1)]
        size, shown = environments.interface.observation_size, compiled[0].shown.dtype
        self._environments = (
            np.array([one.addresses for one in compiled], np.int64),
            np.zeros((len(compiled), 4), np.int64),
            np.zeros((len(compiled), widths[0])),
        )
        self._begun = all(one.addresses[0] for one in compiled)  # by their C functions
        first = 0 if self._begun else PREPARED
        weights = network.synapses.size // int(network.settings[plastic.STREAMS])
        self._prepared = (
            np.zeros((LANES, PREPARED, weights), np.float32),
            np.zeros((LANES, PREPARED), np.int64),
            np.zeros((LANES, PREPARED), np.uint64),
            np.zeros((LANES, first, widths[1])),
            np.zeros((LANES, first, size), shown),
        )
        self._memory = (
            np.zeros((LANES, widths[1])),
            np.zeros((LANES, size), shown),
            np.zeros((LANES, 2, size)),
            np.zeros((LANES, 2, size)),
        )
        self._passing = (
            np.zeros(size, np.float32),
            np.zeros(compiled[0].decode.action_size, np.float32),
            np.zeros(1),
        )
        self._progress = (
            np.zeros((members.COUNTS, LANES), np.int64),
            np.zeros((LANES, PREPARED)),
            np.zeros((LANES, PREPARED), np.int64),
        )
        self._loader = make_loader(
            rollout, self._rows, algorithm, self._networks, self._prepared[0]
        )
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
        self._set_environments(limit)
        scale = self._rollout.environments.scale or UNSCALED
        first = self._compiled[0]
        waiting = iter(tasks)
        counts = self._progress[0]
        counts[...] = 0
        self._lanes = [None] * LANES
        free, playing, more = list(range(most)), 0, True
        while True:
            taken = list(itertools.islice(waiting, len(free)))
            more = more and len(taken) == len(free)
            if taken:
                self._take(state, taken, [free.pop() for _ in taken])
                playing += len(taken)
            if not playing:
                return
            members.play(
                self._environments,
                self._prepared,
                self._memory,
                self._passing,
                first.tables,
                first.decode.squashed,
                scale,
                self._networks,
                self._progress,
                min(playing, FREE_AT_ONCE) if more else playing,
            )
            ended = [
                (lane, one)
                for lane, one in enumerate(self._lanes)
                if one is not None and not counts[members.PLAYING, lane]
            ]
            self._count(ended)
            again = [
                (lane, one)
                for lane, one in ended
                if one.failed is None and one.prepared < len(one.task.seeds)
            ]
            if again:
                self._prepare(state, again)
            for lane, one in ended:
                if counts[members.PLAYING, lane]:
                    continue
                self._lanes[lane] = None
                free.append(lane)
                playing -= 1
                if one.failed is not None:
                    yield one.task, one.failed, None
                    continue
                outcome, observed = self._outcome(lane, one)
                if outcome.status is not Status.DONE and self._replays_left:
                    self._replays_left -= 1  # once more alone, to say why: the same bits
                    with blaming(state, one.task):
                        self._rollout.load(self._rows.pieces(state, one.task))
                        outcome = self._rollout.play(one.task.seeds, limit)
                yield one.task, outcome, observed

    def _set_environments(self, limit: int | None) -> None:
        """Say when episodes on each variant end, of at most ``limit`` steps if given, and what their steps read."""
        environments, config = self._rollout.environments, self._rollout.config
        _, bounds, parameters = self._environments
        for variant, compiled in enumerate(self._compiled):
            steps = environments.step_limit(variant)
            bounds[variant] = (
                min(steps, limit or steps),
                config.env.stop_after_negative,
                config.format > 1,
                compiled.double and environments.scale is not None,
            )
            own = compiled.arrays[0]
            parameters[variant, : own.size] = own

    def _take(self, state: RunState, tasks: list[Task], lanes: list[int]) -> None:
        """Give lanes to members."""
        given = [
            (lane, _Lane(task, len(self._compiled)))
            for lane, task in zip(lanes, tasks, strict=True)
        ]
        for lane, one in given:
            self._lanes[lane] = one
        self._memory[2][lanes] = 0.0
        self._prepare(state, given)

    def _prepare(self, state: RunState, given: list[tuple[int, _Lane]]) -> None:
        """Prepare as many of some lanes' next episodes as there is room for, and begin the first of each."""
        tasks, lanes = [one.task for _, one in given], [lane for lane, _ in given]
        following = [one.task.seeds[one.prepared :][:PREPARED] for _, one in given]
        episodes = Given(tasks, lanes, following)
        self._loader.load(state, episodes)
        _, variants, drawn, _, _ = self._prepared
        seeds, lane_of, number = episodes.all
        variants[lane_of, number] = [one.variant for one in seeds]
        drawn[lane_of, number] = [one.environment for one in seeds]
        if not self._begun:
            self._begin_in_python(state, episodes)
        counts = self._progress[0][members.PREPARED]
        for (lane, one), own in zip(given, following, strict=True):
            counts[lane] = len(own)
            one.prepared += len(own)
        members.begin(
            episodes.lanes,
            self._environments,
            self._prepared,
            self._memory,
            self._networks,
            self._progress,
        )

    def _begin_in_python(self, state: RunState, given: Given) -> None:
        """Keep what the first steps of episodes begin with, of environments whose reset has no address."""
        _, _, _, first_states, first_shown = self._prepared
        for task, lane, following in zip(
            given.tasks, given.lanes.tolist(), given.seeds, strict=True
        ):
            with blaming(state, task):
                try:
                    for episode, seeds in enumerate(following):
                        compiled = self._compiled[seeds.variant]
                        if not compiled.addresses[0]:
                            compiled.begin_episode(seeds.environment)
                            own = compiled.arrays[1]
                            first_states[lane, episode, : own.size] = own
                            first_shown[lane, episode] = compiled.shown
                except OF_ONE_MEMBER as error:
                    one = self._lanes[lane]
                    assert one is not None
                    one.failed = self._rows.failed(error)

    def _count(self, ended: list[tuple[int, _Lane]]) -> None:
        """Count the episodes of lanes that have been played."""
        counts, totals, steps = self._progress
        lanes = [lane for lane, _ in ended]
        played = counts[members.PREPARED, lanes].tolist()
        for (_, one), most, own_totals, own_steps in zip(
            ended, played, totals[lanes].tolist(), steps[lanes].tolist(), strict=True
        ):
            seeds = one.task.seeds[one.prepared - most : one.prepared]
            for episode, total, made in zip(seeds, own_totals, own_steps, strict=False):
                one.count(episode.variant, total, made)

    def _outcome(self, lane: int, one: _Lane) -> tuple[Outcome, Float64s | None]:
        """What a member's episodes gave, as ``Environments.play`` and ``observed`` have it."""
        outcome = one.outcome()
        if not self._rollout.config.env.normalize_observations:
            return outcome, None
        return outcome, np.concatenate([[float(one.observations)], *self._memory[2][lane]])
