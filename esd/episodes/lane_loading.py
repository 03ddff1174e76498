"""From members' parameters and episodes' seeds to networks in lanes: one by one through any policy, or many at once.

A call from Python takes as long as several steps of sixteen small networks.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esd.episodes.evaluator import Rows, Task, blaming
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.evolution.algorithm import Algorithm
from esd.evolution.guarded_algorithm import GuardedAlgorithm
from esd.evolution.state import RunState
from esd.kernels import members, plastic
from esd.kernels.lanes import LANES
from esd.policies.guard import unguarded
from esd.policies.hebbian import HebbianPolicy
from esd.policies.perceptron import Many
from esd.policies.static import StaticPolicy

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


class Given:
    """What lanes are given.

    Attributes:
        tasks: whose parameters.
        lanes: where to, one for each task, int64 [tasks].
        seeds: of the next episodes of each.
        counts: how many these are, int64 [tasks].
        all: the seeds of all, the lane of each, and its number there, int64 [episodes].
    """

    def __init__(
        self, tasks: list[Task], lanes: list[int], seeds: list[list[EpisodeSeeds]]
    ) -> None:
        """Give tasks and their next episodes to lanes."""
        self.tasks, self.seeds = tasks, seeds
        self.lanes = np.array(lanes, np.int64)
        self.counts = np.array([len(own) for own in seeds], np.int64)
        numbers = [number for own in seeds for number in range(len(own))]
        every = [one for own in seeds for one in own]
        self.all = every, np.repeat(self.lanes, self.counts), np.array(numbers, np.int64)


class Loader(Protocol):
    """Puts members into lanes."""

    def load(self, state: RunState, given: Given) -> None:
        """Write coefficients into the lanes' networks, and the weights that episodes begin with."""


class LoadsOneByOne:
    """Through the policy's own methods."""

    def __init__(
        self, rollout: Rollout, rows: Rows, networks: members.Networks, weights: Float32s
    ) -> None:
        """Put members into lanes.

        Args:
            rollout: with the policy.
            rows: say whose parameters.
            networks: of the lanes.
            weights: at the beginning of each lane's next episodes, float32 [16, episodes, weights].
        """
        policy: Any = rollout.policy
        self._rollout, self._rows, self._policy = rollout, rows, policy
        self._network, self._networks, self._weights = policy.network, networks, weights

    def load(self, state: RunState, given: Given) -> None:
        """See ``Loader.load``."""
        synapses, settings = self._network.synapses, self._network.settings
        for task, lane, following in zip(
            given.tasks, given.lanes.tolist(), given.seeds, strict=True
        ):
            with blaming(state, task):
                self._rollout.load(self._rows.pieces(state, task))
                if settings[plastic.STREAMS] > 1:
                    members.place_coefficients(synapses, settings, self._networks, lane)
                for episode, seeds in enumerate(following):
                    self._policy.reset(seeds.policy)
                    members.keep_weights(synapses, settings, self._weights[lane, episode])


class LoadsMany:
    """Many members in a few calls, of policies whose parameters only have to be put into their places."""

    def __init__(
        self,
        rollout: Rollout,
        algorithm: Algorithm,
        many: Many,
        networks: members.Networks,
        weights: Float32s,
    ) -> None:
        """Put an algorithm's members into lanes; see ``LoadsOneByOne``, and ``many`` is the policy's."""
        policy: Any = rollout.policy
        self._algorithm, self._many = algorithm, many
        self._placing = many.stretches, many.by_columns, many.factor
        self._network, self._networks, self._weights = policy.network, networks, weights
        self._values = np.empty((LANES, policy.layout.size), np.float32)

    def load(self, state: RunState, given: Given) -> None:
        """See ``Loader.load``."""
        asked, values = [task.member for task in given.tasks], self._values[: len(given.tasks)]
        self._algorithm.ask_many(state.evolution, asked, values)
        synapses, settings = self._network.synapses, self._network.settings
        members.load_many(
            values,
            self._placing,
            synapses,
            settings,
            self._networks,
            self._weights,
            given.counts,
            given.lanes,
        )
        if self._many.draw is not None:
            every, lanes, numbers = given.all
            drawn = self._many.draw(np.array([seeds.policy for seeds in every], np.uint64))
            members.draw_weights(drawn, self._many.bounds, settings, self._weights, lanes, numbers)


def make_loader(
    rollout: Rollout,
    rows: Rows,
    algorithm: Algorithm,
    networks: members.Networks,
    weights: Float32s,
) -> Loader:
    """The fastest that a policy and an algorithm allow; what a user has written is called member by member."""
    own = unguarded(rollout.policy)
    many = own.many() if type(own) in (HebbianPolicy, StaticPolicy) else None
    if many is None or isinstance(algorithm, GuardedAlgorithm):
        return LoadsOneByOne(rollout, rows, networks, weights)
    return LoadsMany(rollout, algorithm, many, networks, weights)
