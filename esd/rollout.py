"""One member → one record: a pure function of (config, state_t, generation, member) (law 1).

Everything random in an episode is seeded by (seed, generation, member, episode) through the counter generator: the
environment, the initial weights, and Python's and numpy's global generators, which some environments still use.

A ``World`` is the environment's side of an episode, a generator that yields observations and is sent outputs. So one
text serves both ways of evaluating: ``Rollout`` here lets one policy answer at once, ``esd.batch`` many in lock-step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import esd_envs
from esd.config import Config, EnvironmentConfig, Variant
from esd.errors import UsageError, nearest
from esd.kernels import actions
from esd.noise import Purpose, words
from esd.observations import ObservationStatistics
from esd.plugins import import_name, make_working_directory_importable
from esd.policies.base import Interface, LoadsPieces
from esd.policies.registry import make_policy
from esd.records import Status
from esd.spaces import ActionDecoder, ObservationFlattener

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Environment = gymnasium.Env[Any, Any]

gymnasium.register_envs(esd_envs)  # importing it has registered them


def make_environment(config: EnvironmentConfig) -> Environment:
    """Make the environment with its wrappers.

    Raises:
        UsageError: if the id is unknown, its keyword arguments or its wrappers don't fit, or a dependency is missing.
    """
    make_working_directory_importable()
    try:
        env = gymnasium.make(config.id, disable_env_checker=True, **config.kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        hint = ""
        if isinstance(error, gymnasium.error.UnregisteredEnv | ModuleNotFoundError):
            hint = f" ({nearest(config.id, list(gymnasium.registry))})"
            if len(hint) > 200:
                hint = " (esd list environments shows those installed)"
        raise UsageError(f"env.id = {config.id!r}: {_one_line(error)}{hint}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"env.id = {config.id!r} with env.kwargs = {config.kwargs}: {_one_line(error)}"
        ) from error
    for wrapper in config.wrappers:
        wrapper_class = import_name(wrapper.id, "env.wrappers")
        try:
            env = wrapper_class(env, **wrapper.kwargs)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"env.wrappers: {wrapper.id} with {wrapper.kwargs}: {_one_line(error)}"
            ) from error
    return env


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def step_limit(env: Environment, config: EnvironmentConfig) -> int:
    """Steps after which an episode ends at the latest.

    Raises:
        UsageError: if neither the environment nor ``env.max_steps`` says so: an episode might never end.
    """
    own = env.spec.max_episode_steps if env.spec is not None else None
    limits = [limit for limit in (own, config.max_steps) if limit]
    if not limits:
        raise UsageError(
            f"env.id = {config.id!r} has no step limit of its own; set env.max_steps, or an episode may never end"
        )
    return min(limits)


def keeps_box2d_world(env: Environment) -> bool:
    """Whether an environment keeps a Box2D world: its contact order survives a reset, and with it the last episode.

    One whose ``metadata`` says ``"rebuilds_world": True`` makes a new world in every reset itself.
    """
    world = getattr(env.unwrapped, "world", None)
    return type(world).__name__ == "b2World" and not env.unwrapped.metadata.get("rebuilds_world")


@dataclass(frozen=True)
class EpisodeSeeds:
    """What makes one episode the one it is.

    Attributes:
        environment: for ``reset`` and the global generators, 31 bits.
        policy: for the initial weights, 64 bits.
        variant: which of the trained variants it is played on.
    """

    environment: int
    policy: int
    variant: int = 0

    @classmethod
    def named(
        cls,
        seed: int,
        purpose: Purpose,
        generation: int,
        owner: int,
        episode: int,
        variant: int = 0,
    ) -> EpisodeSeeds:
        """The seeds of an episode by its coordinates; two purposes never share any, the variants do."""
        w = words(seed, purpose, episode, owner, generation)
        return cls(int(w[0]) & 0x7FFFFFFF, int(w[2]) | int(w[3]) << 32, variant)


@dataclass(frozen=True)
class Outcome:
    """What evaluating something gave.

    Attributes:
        returns: on each variant the mean over its episodes; NaN if one failed, or if there was none.
        steps: environment steps of all episodes.
        episodes: how many.
        status: the worst of them.
    """

    returns: tuple[float, ...]
    steps: int
    episodes: int
    status: Status


Episodes = Generator[Float32s, Float32s, Outcome]


class _Body:
    """One variant's environment, and what lies between it and a network."""

    def __init__(self, config: EnvironmentConfig) -> None:
        self._config = config
        self._environment = make_environment(config)
        self._rebuild = config.rebuild == "always" or (
            config.rebuild == "auto" and keeps_box2d_world(self._environment)
        )
        self.limit = step_limit(self._environment, config)
        self.observe = ObservationFlattener(self._environment.observation_space, config.id)
        self.decode = ActionDecoder(self._environment.action_space, config.id)
        self.interface = Interface(self.observe.size, self.decode.size, self.decode.bounded)

    def begin(self) -> Environment:
        """The environment, fit for an episode: made anew if the last one may have left something in it."""
        if self._rebuild:
            self._environment.close()
            self._environment = make_environment(self._config)
        return self._environment

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()


class World:
    """The trained variants as a policy meets them: flat observations in, outputs of the network back.

    Attributes:
        interface: the sizes, and whether actions are bounded; the same on all variants.
        variants: their names.
    """

    def __init__(self, config: EnvironmentConfig) -> None:
        """Make the environments.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        self._config = config
        self.variants = tuple(variant.name for variant in config.trained)
        self._bodies = [_body(config, variant) for variant in config.trained]
        self.interface = self._bodies[0].interface
        for name, body in zip(self.variants, self._bodies, strict=True):
            if body.interface != self.interface:
                raise UsageError(
                    f"env.variants: {name!r} has {body.interface.described()}, but {self.variants[0]!r} has "
                    f"{self.interface.described()}; one network has to fit all"
                )
        self._scale: tuple[Float64s, Float64s] | None = None
        self._sums = np.zeros((2, self.interface.observation_size))

    def outputs_are_squashed(self, squashed: bool) -> None:
        """Say whether the policy's outputs lie in [−1, 1] already."""
        for body in self._bodies:
            body.decode.outputs_are_squashed(squashed)

    def use_statistics(self, statistics: ObservationStatistics) -> None:
        """Freeze the observation statistics that all following episodes are normalized by."""
        self._scale = statistics.scale() if statistics.size else None

    def observed(self, outcome: Outcome) -> Float64s | None:
        """Count, sums and squares of the last evaluation's observations, or None without normalization."""
        if not self._config.normalize_observations:
            return None
        # an episode is observed once before each of its steps
        return np.concatenate([[float(outcome.steps)], *self._sums])

    def play(
        self,
        seeds: Sequence[EpisodeSeeds],
        begin: Callable[[EpisodeSeeds], None],
        limit: int | None = None,
    ) -> Episodes:
        """Play one episode per seed, of at most ``limit`` steps if given.

        Yields observations, float32 [observation_size], in a buffer that the next one overwrites, and wants the
        policy's outputs, float32 [action_size], sent back for each.

        Args:
            seeds: of the episodes.
            begin: called at the start of each, before the environment is reset.
            limit: of an episode's steps.

        Returns:
            What the episodes gave.
        """
        self._sums[...] = 0.0
        totals, counts = [0.0] * len(self._bodies), [0] * len(self._bodies)
        steps = 0
        for episode in seeds:
            begin(episode)
            body = self._bodies[episode.variant]
            episode_return, episode_steps = yield from self._episode(body, episode, limit)
            totals[episode.variant] += episode_return
            counts[episode.variant] += 1
            steps += episode_steps
        returns = tuple(
            total / count if count and math.isfinite(total) else math.nan
            for total, count in zip(totals, counts, strict=True)
        )
        failed = any(math.isnan(returns[episode.variant]) for episode in seeds)
        return Outcome(returns, steps, len(seeds), Status.NOT_FINITE if failed else Status.DONE)

    def _episode(
        self, body: _Body, seeds: EpisodeSeeds, limit: int | None
    ) -> Generator[Float32s, Float32s, tuple[float, int]]:
        """Play one episode; returns its return (NaN if an action was not finite) and its steps."""
        environment = body.begin()
        step, observe, decode = environment.step, body.observe, body.decode
        limit = min(body.limit, limit or body.limit)
        observation, _ = environment.reset(seed=seeds.environment)
        patience = self._config.stop_after_negative
        total, steps, negative = 0.0, 0, 0
        while True:
            flat = observe(observation)
            if self._scale is not None:
                actions.observe(flat, *self._scale, *self._sums)
            action = decode((yield flat))
            if action is None:
                return math.nan, steps
            observation, reward, terminated, truncated, _ = step(action)
            gain = float(reward)
            total += gain
            steps += 1
            if terminated or truncated or steps >= limit:
                return total, steps
            if patience:
                negative = negative + 1 if gain < 0.0 else 0
                if negative >= patience:
                    return total, steps

    def close(self) -> None:
        """Close the environments."""
        for body in self._bodies:
            body.close()


def _body(config: EnvironmentConfig, variant: Variant) -> _Body:
    """One variant's body; its name is in every error."""
    try:
        return _Body(config.of_variant(variant))
    except UsageError as error:
        if not variant.name:
            raise
        raise UsageError(f"env.variants, {variant.name!r}: {error}") from error


class Rollout:
    """A world and a policy, and the episodes that they play.

    Attributes:
        policy: the policy, built for the environment.
        interface: what the policy meets.
    """

    def __init__(self, config: Config) -> None:
        """Build environment and policy.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        self._config = config
        self._world = World(config.env)
        self.interface = self._world.interface
        self.policy = make_policy(config.policy, self.interface)
        self._world.outputs_are_squashed(self.policy.squashed)
        self._whole = np.empty(0, np.float32)

    @property
    def observation_size(self) -> int:
        """Numbers per observation whose statistics travel in the records; 0 without normalization."""
        normalizes = self._config.env.normalize_observations
        return self.interface.observation_size if normalizes else 0

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the bodies that a member is evaluated on; one empty name without variants."""
        return self._world.variants

    def use_statistics(self, statistics: ObservationStatistics) -> None:
        """Freeze the observation statistics that all following episodes are normalized by."""
        self._world.use_statistics(statistics)

    def load(self, pieces: Iterable[tuple[int, Float32s]]) -> None:
        """Give the policy its parameters: first coordinates and pieces, in order.

        A policy that can't take pieces gets them as a whole, in memory that the next load overwrites.
        """
        if isinstance(self.policy, LoadsPieces):
            for start, piece in pieces:
                self.policy.load_piece(start, piece)
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

    def play(self, seeds: list[EpisodeSeeds], limit: int | None = None) -> Outcome:
        """Play one episode per seed with the parameters that were loaded, of at most ``limit`` steps if given."""
        act = self.policy.act
        episodes = self._world.play(seeds, self._begin, limit)
        answer = episodes.send
        observation = next(episodes)
        while True:
            outputs = act(observation)
            try:
                observation = answer(outputs)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome

    def _begin(self, seeds: EpisodeSeeds) -> None:
        """Seed all that an episode's randomness may come from but the environment itself."""
        random.seed(seeds.environment)
        np.random.seed(seeds.environment)  # noqa: NPY002  # environments that use the global generator
        self.policy.reset(seeds.policy)

    def member_seeds(self, generation: int, member: int) -> list[EpisodeSeeds]:
        """The episodes of a member, shared with others as ``es.common_random_numbers`` says.

        No two variants share any: what averages out over more episodes does so over more variants, too.
        """
        owners = {"none": member, "pair": member // 2, "generation": 0}
        owner = owners[self._config.es.common_random_numbers]
        seed, count = self._config.seed, self._config.env.episodes_per_member
        return [
            EpisodeSeeds.named(
                seed, Purpose.TRAIN_EPISODE, generation, owner, variant * count + episode, variant
            )
            for variant in range(len(self.variants))
            for episode in range(count)
        ]

    def observed(self, outcome: Outcome) -> Float64s | None:
        """Count, sums and squares of the last evaluation's observations, or None without normalization."""
        return self._world.observed(outcome)

    def close(self) -> None:
        """Close the environment."""
        self._world.close()
