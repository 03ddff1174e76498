"""One member → one record: a pure function of (config, state_t, generation, member) (law 1).

Everything random in an episode is seeded by (seed, generation, member, episode) through the counter generator: the
environment, the initial weights, and Python's and numpy's global generators, which some environments still use.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.episodes.checked import too_long
from esd.episodes.compiled_episodes import HasNetwork, is_its_network
from esd.episodes.environments import Environments, Outcome
from esd.episodes.pictures import check_pictures
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.weight_seeds import WeightSeeds
from esd.evolution.global_generators import seed_global_generators
from esd.evolution.noise import Purpose
from esd.evolution.observations import ObservationStatistics
from esd.forks import end_child_of
from esd.policies.base import LoadsPieces
from esd.policies.guard import unguarded
from esd.policies.hebbian import HebbianPolicy
from esd.policies.registry import make_policy
from esd.policies.static import StaticPolicy
from esd.time_limit import TimeLimitError, time_limit

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

OWNERS_AT_ONCE = 64  # members whose seeds are drawn in one call, which takes as long as for one
COMPILING_SECONDS = 300.0
EPISODES_AT_ONCE = 4096  # of these members together, for which 64 take no longer: seeds take memory

OWNERS: dict[str, Callable[[int], int]] = {  # whose seeds a member has
    "none": lambda member: member,
    "pair": lambda member: member // 2,
    "generation": lambda member: 0,
}


class Rollout:
    """Environments and a policy, and the episodes that they play.

    Attributes:
        environments: the trained variants.
        policy: the policy, built for the environment.
        interface: what the policy meets.
        config: of the run.
        weights: whose initial weights episodes begin with.
    """

    def __init__(self, config: Config) -> None:
        """Build environment and policy.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        self.config = config
        self.environments = Environments(config.env, config.format)
        check_pictures(config, self.environments.observation_spaces())
        self.interface = self.environments.interface
        self.policy = make_policy(config.policy, self.interface, config.format)
        self.environments.outputs_are_squashed(self.policy.squashed)
        own = unguarded(self.policy)
        self._has_own_act = type(own) in (HebbianPolicy, StaticPolicy)  # nothing of a user's
        if is_its_network(own):
            self.environments.compile_with(cast(HasNetwork, self.policy))
        elif config.format > 1:  # in the first, outputs may be of other types than float32
            self.environments.compile_steps()
        self._load_piece = (  # asking a protocol takes as long as thirty steps of a cart pole
            self.policy.load_piece if isinstance(self.policy, LoadsPieces) else None
        )
        self._whole = np.empty(0, np.float32)
        self._drawn: tuple[int, int, list[list[EpisodeSeeds]]] = -1, -1, []
        self._owner = OWNERS[config.es.common_random_numbers]
        self.weights = WeightSeeds(config)

    def with_new_policy(self) -> Rollout:
        """The same environments with another object of the policy, to be played step by step only."""
        new = copy.copy(self)
        new._has_own_act = False  # the environments know the other object
        new.policy = policy = make_policy(self.config.policy, self.interface, self.config.format)
        new._load_piece = policy.load_piece if isinstance(policy, LoadsPieces) else None
        new._whole = np.empty(0, np.float32)
        return new

    def with_new_environments(self, config: Config | None = None) -> Rollout:
        """The same policy in new environments, of another config if there is one, to be played step by step only."""
        new = copy.copy(self)
        new.config = self.config if config is None else config
        new._drawn = -1, -1, []
        new.environments = Environments(new.config.env, new.config.format)
        new.environments.outputs_are_squashed(self.policy.squashed)
        return new

    @property
    def observation_size(self) -> int:
        """Numbers per observation whose statistics travel in the records; 0 without normalization."""
        normalizes = self.config.env.normalize_observations
        return self.interface.observation_size if normalizes else 0

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the bodies that a member is evaluated on; one empty name without variants."""
        return self.environments.variants

    @property
    def compiled(self) -> bool:
        """Whether any of them plays compiled episodes."""
        return self.environments.compiled

    def use_statistics(self, statistics: ObservationStatistics) -> None:
        """Freeze the observation statistics that all following episodes are normalized by."""
        self.environments.use_statistics(statistics)

    def load(self, pieces: Iterable[tuple[int, Float32s]]) -> None:
        """Give the policy its parameters: first coordinates and pieces, in order.

        A policy that can't take pieces gets them as a whole, in memory that the next load overwrites.
        """
        if self._load_piece is not None:
            for start, piece in pieces:
                self._load_piece(start, piece)
            return
        if not self._whole.size:
            self._whole = np.empty(self.policy.layout.size, np.float32)
        for start, piece in pieces:
            self._whole[start : start + piece.size] = piece
        self.policy.load(self._whole)

    def evaluate(
        self, parameters: Float32s, seeds: list[EpisodeSeeds], limit: int | None = None
    ) -> Outcome:
        """Play one episode per seed with a policy's parameters, float32 [|h|], of at most ``limit`` steps if given."""
        self.load([(0, parameters)])
        return self.play(seeds, limit)

    def play(
        self,
        seeds: list[EpisodeSeeds],
        limit: int | None = None,
        stepwise: bool = False,
        told: Callable[[bytes], object] | None = None,
        more_seconds: float | None = COMPILING_SECONDS,
    ) -> Outcome:
        """Play one episode per seed with the parameters that were loaded.

        Args:
            seeds: of the episodes.
            limit: of an episode's steps.
            stepwise: ask ``policy.act`` for every step, also in episodes that could be played compiled.
            told: is called with the bits of everything that ``policy.act`` answers.
            more_seconds: that an episode may take beyond ``env.episode_seconds``; None: any number. At the start of a
                training, code may have to be compiled.

        Raises:
            BrokenEnvironmentError: if the environment raises or misfits, or an episode takes longer than
                ``env.episode_seconds``.
        """
        seconds, process = self.config.env.episode_seconds, os.getpid()
        try:
            if seconds is None or more_seconds is None:
                return self._play(seeds, limit, stepwise, told)
            return self._play_in(seconds + more_seconds, seeds, limit, stepwise, told)
        finally:
            end_child_of(process)

    def _play_in(
        self,
        seconds: float,
        seeds: list[EpisodeSeeds],
        limit: int | None,
        stepwise: bool,
        told: Callable[[bytes], object] | None,
    ) -> Outcome:
        """See ``play``; an episode may take so long."""
        environments = self.environments
        try:
            with time_limit(seconds, "env.episode_seconds") as environments.begins:
                return self._play(seeds, limit, stepwise, told)
        except TimeLimitError:
            environments.make_anew()
            raise too_long(self.config.env) from None
        finally:
            environments.begins = None

    def _play(
        self,
        seeds: list[EpisodeSeeds],
        limit: int | None,
        stepwise: bool,
        told: Callable[[bytes], object] | None,
    ) -> Outcome:
        """See ``play``."""
        act = self.policy.act if told is None else _overheard(self.policy.act, told)
        asks = told is not None or not self._has_own_act
        episodes = self.environments.play(seeds, self._begin, limit, stepwise, asks)
        answer = cast(Callable[[Float32s | None], Float32s], episodes.send)
        outputs = None  # which starts it
        while True:
            try:
                observation = answer(outputs)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            outputs = act(observation)

    def _begin(self, seeds: EpisodeSeeds) -> None:
        """Seed all that an episode's randomness may come from but the environment itself."""
        seed_global_generators(seeds.environment)
        self.policy.reset(seeds.policy)

    def member_seeds(self, generation: int, member: int) -> list[EpisodeSeeds]:
        """The episodes of a member, shared with others as ``es.common_random_numbers`` says.

        No two variants share any: what averages out over more episodes does so over more variants, too.
        """
        owner, episodes = self._owner(member), self.config.env.episodes_per_member
        at_once = max(1, min(OWNERS_AT_ONCE, EPISODES_AT_ONCE // episodes))
        first = owner - owner % at_once
        if self._drawn[:2] != (generation, first):
            variants = [variant for variant in range(len(self.variants)) for _ in range(episodes)]
            drawn = EpisodeSeeds.consecutive(
                self.config.seed,
                Purpose.TRAIN_EPISODE,
                generation,
                range(first, first + at_once),
                variants,
            )
            if not self.weights.of_episodes:
                drawn = [self.weights.put(own, first + k) for k, own in enumerate(drawn)]
            self._drawn = generation, first, drawn
        return self._drawn[2][owner - first]

    def drop_unequal_steps(self, steps: int) -> None:
        """Play what has a known compiled step by its own one, if an episode of so many steps shows other bits."""
        environments = self.environments
        known = [v for v in range(len(self.variants)) if environments.plays_known_step(v)]
        if not known:
            return
        self.load([(0, self.policy.initial_parameters(self.config.seed))])
        environments.use_statistics(ObservationStatistics.empty(self.interface.observation_size))
        for variant in known:
            seeds = [
                EpisodeSeeds.named(self.config.seed, Purpose.CANARY, 0, 0, episode, variant)
                for episode in range(2)
            ]
            seen = []
            for stepwise in (False, True):
                outcome = self.play(seeds, steps, stepwise)
                seen.append((repr(outcome), environments.sums_of_observations()))
            if seen[0] != seen[1]:
                environments.drop_known_step(
                    variant, "its compiled step gives other bits than its own step on this machine"
                )

    def how_played(self) -> list[str]:
        """What a user should know of how episodes are played: a line for each environment that is known."""
        found: dict[str, None] = {}
        for number, variant in enumerate(self.config.env.trained):
            name = variant.id or self.config.env.id
            why = self.environments.why_stepwise(number)
            if self.environments.plays_known_step(number):
                whole = not self.config.lockstep and self.environments.all_compiled() is not None
                what = "whole episodes run" if whole else "steps run"
                found[f"{name}: {what} in compiled code"] = None
            elif why:
                found[f"{name}: episodes run step by step, not in compiled code: {why}"] = None
        return list(found)

    def observed(self, outcome: Outcome) -> Float64s | None:
        """Count, sums and squares of the last evaluation's observations, or None without normalization."""
        return self.environments.observed(outcome)

    def close(self) -> None:
        """Close the environment."""
        self.environments.close()


def _overheard(
    act: Callable[[Float32s], Float32s], told: Callable[[bytes], object]
) -> Callable[[Float32s], Float32s]:
    """A policy's act that also tells its outputs, little-endian float32."""

    def overheard(observation: Float32s) -> Float32s:
        outputs = act(observation)
        bits = np.array(outputs, "<f4")
        bits[np.isnan(bits)] = np.nan  # whose sign depends on the processor
        told(bits.tobytes())
        return outputs

    return overheard
