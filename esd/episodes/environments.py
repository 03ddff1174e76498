"""The environment's side of an episode: made, wrapped, seeded, and met by a policy as numbers in and numbers out.

``Environments`` play episodes as a generator that yields observations and is sent outputs. So one text serves both ways
of evaluating: ``Rollout`` lets one policy answer at once, ``esd.lockstep`` many in lock-step.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.keywords import fresh
from esd.config.plugins import import_name, in_one_line, make_working_directory_importable
from esd.config.settings import EnvironmentConfig, Variant
from esd.episodes.compiled_episodes import CompiledEpisodes, HasNetwork, offered
from esd.episodes.registration import register_for
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import EsdError, MissingPackageError, UsageError, missing_module, nearest
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Status
from esd.kernels import actions
from esd.policies.base import Interface

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Environment = gymnasium.Env[Any, Any]


def make_environment(config: EnvironmentConfig) -> Environment:
    """Make the environment with its wrappers.

    Raises:
        UsageError: if the id is unknown, its keyword arguments or its wrappers don't fit, or a dependency is missing;
            ``MissingPackageError`` if that is an optional package.
    """
    make_working_directory_importable()
    broken = register_for(config.id)
    try:
        env = gymnasium.make(config.id, disable_env_checker=True, **fresh(config.kwargs))
    except (gymnasium.error.Error, ImportError) as error:
        if (missing := missing_module(error)) is not None:
            raise MissingPackageError(f"env.id = {config.id!r}", missing) from error
        hint = ""
        if isinstance(error, gymnasium.error.UnregisteredEnv | ModuleNotFoundError):
            hint = f" ({nearest(config.id, list(gymnasium.registry))})"
            if len(hint) > 200:
                hint = " (esd list environments shows those installed)"
            hint += "".join(f"; {reason}" for reason in broken.values())
        raise UsageError(f"env.id = {config.id!r}: {_one_line(error)}{hint}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"env.id = {config.id!r} with env.kwargs = {config.kwargs}: {_one_line(error)}"
        ) from error
    except EsdError:
        raise
    except (Exception, SystemExit) as error:  # of the environment's own code
        raise UsageError(
            f"env.id = {config.id!r}: making it raised {in_one_line(error)}"
        ) from error
    for wrapper in config.wrappers:
        wrapper_class = import_name(wrapper.id, "env.wrappers")
        try:
            env = wrapper_class(env, **fresh(wrapper.kwargs))
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


def global_generators() -> tuple[Any, ...]:
    """Where Python's and numpy's global generators stand."""
    _, key, *rest = np.random.get_state()  # noqa: NPY002  # whether an environment has used it
    return (random.getstate(), np.asarray(key).tobytes(), *rest)


@dataclass(frozen=True)
class Outcome:
    """What evaluating something gave.

    Attributes:
        returns: on each variant the mean over its episodes; NaN if one failed, or if there was none.
        steps: environment steps of all episodes.
        episodes: how many.
        status: the worst of them.
        observations: how many are in the sums that ``Environments.observed`` gives.
    """

    returns: tuple[float, ...]
    steps: int
    episodes: int
    status: Status
    observations: int


Episodes = Generator[Float32s, Float32s, Outcome]


class VariantEnvironment:
    """One variant's environment, and what lies between it and a network.

    Attributes:
        id: the environment's.
        limit: of an episode's steps.
        observe: makes observations flat.
        decode: makes actions of outputs.
        interface: the sizes, and whether actions are bounded.
        compiled: plays whole episodes, if the environment and the policy can.
    """

    def __init__(self, config: EnvironmentConfig) -> None:
        """Make the environment of one variant."""
        self._config, self.id = config, config.id
        self._directory = Path.cwd()  # relative paths in the config begin here, in every episode
        self._environment = make_environment(config)
        self._go_back()
        self._rebuild = config.rebuild == "always" or (
            config.rebuild == "auto" and keeps_box2d_world(self._environment)
        )
        self.limit = step_limit(self._environment, config)
        self.observe = ObservationFlattener(self._environment.observation_space, config.id)
        self.decode = ActionDecoder(self._environment.action_space, config.id)
        self.interface = Interface(
            self.observe.size, self.decode.size, self.decode.bounded, self.decode.described
        )
        results = self._environment.metadata.get("results")
        self.units: dict[str, str] = dict(results) if isinstance(results, dict) else {}
        self.compiled: CompiledEpisodes | None = None

    def compile_with(self, policy: HasNetwork) -> None:
        """Play compiled episodes with a policy from now on, if the environment offers them."""
        if (
            self._rebuild or self._config.wrappers or self.units
        ):  # an episode's results are told in Python
            return
        environment = offered(self._environment, self._config.id)
        if environment is not None:
            self.compiled = CompiledEpisodes(environment, policy, self.observe.size, self.decode)

    @property
    def made_anew(self) -> bool:
        """Whether the environment is made anew for every episode."""
        return self._rebuild

    def _go_back(self) -> None:
        """Undo a change of the working directory by an environment, which would leak into the next episode."""
        with contextlib.suppress(OSError):  # it was removed
            os.chdir(self._directory)

    def begin(self) -> Environment:
        """The environment, fit for an episode: made anew if the last one may have left something in it."""
        if self._rebuild:
            self._environment.close()
        self._go_back()
        if self._rebuild:
            self._environment = make_environment(self._config)
            self._go_back()
        return self._environment

    @property
    def environment(self) -> Environment:
        """The environment as it was made last, with its wrappers."""
        return self._environment

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()


UNSCALED: tuple[Float64s, Float64s] = (np.empty(0), np.empty(0))


class Environments:
    """The trained variants as a policy meets them: flat observations in, outputs of the network back.

    Attributes:
        interface: the sizes, and whether actions are bounded; the same on all variants.
        variants: their names.
        info: what the environment said with the last step of the last episode.
        watch: puts something around the environment of every episode that is played step by step; None: nothing.
    """

    def __init__(self, config: EnvironmentConfig) -> None:
        """Make the environments.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        self._config = config
        self.variants = tuple(variant.name for variant in config.trained)
        self._all = [_variant_environment(config, variant) for variant in config.trained]
        self.interface = self._all[0].interface
        for name, one in zip(self.variants, self._all, strict=True):
            if one.interface != self.interface:
                raise UsageError(
                    f"env.variants: {name!r} has {one.interface.described()}, but {self.variants[0]!r} has "
                    f"{self.interface.described()}; one network has to fit all"
                )
        self._scale: tuple[Float64s, Float64s] | None = None
        self._sums = np.zeros((2, self.interface.observation_size))
        self.info: dict[str, Any] = {}
        self.watch: Callable[[Environment], Environment] | None = None

    def observation_spaces(self) -> list[tuple[str, gymnasium.Space[Any]]]:
        """Every variant's environment id and observation space."""
        return [(one.id, one.observe.space) for one in self._all]

    def step_limit(self, variant: int) -> int:
        """Steps after which an episode on a variant ends at the latest."""
        return self._all[variant].limit

    def units(self, variant: int) -> dict[str, str]:
        """The results that a variant's environment tells at the end of an episode, by name with their units.

        They are what its ``metadata["results"]`` lists, such as {"distance": "m"}; their values are in ``info``.
        """
        return self._all[variant].units

    def made(self) -> Iterator[Environment]:
        """Each variant's environment, with its wrappers."""
        for one in self._all:
            yield one.environment

    @property
    def made_anew(self) -> bool:
        """Whether all of them are made anew for every episode."""
        return all(one.made_anew for one in self._all)

    def left_behind(self, variant: int) -> bytes:
        """The last observation, action and reward of a variant's last compiled episode."""
        compiled = self._all[variant].compiled
        return b"" if compiled is None else compiled.left_behind()

    def outputs_are_squashed(self, squashed: bool) -> None:
        """Say whether the policy's outputs lie in [−1, 1] already."""
        for one in self._all:
            one.decode.outputs_are_squashed(squashed)

    def compile_with(self, policy: HasNetwork) -> None:
        """Play whole episodes with a policy, without asking for outputs, wherever that is possible."""
        for one in self._all:
            one.compile_with(policy)

    @property
    def compiled(self) -> bool:
        """Whether any of the bodies plays compiled episodes."""
        return any(one.compiled is not None for one in self._all)

    def use_statistics(self, statistics: ObservationStatistics) -> None:
        """Freeze the observation statistics that all following episodes are normalized by."""
        self._scale = statistics.scale() if statistics.size else None

    def observed(self, outcome: Outcome) -> Float64s | None:
        """Count, sums and squares of the last evaluation's observations, or None without normalization.

        An episode without a finite return has no part in them.
        """
        if not self._config.normalize_observations:
            return None
        return np.concatenate([[float(outcome.observations)], *self._sums])

    def play(
        self,
        seeds: Sequence[EpisodeSeeds],
        begin: Callable[[EpisodeSeeds], None],
        limit: int | None = None,
        stepwise: bool = False,
    ) -> Episodes:
        """Play one episode per seed, of at most ``limit`` steps if given.

        Yields observations, float32 [observation_size], in a buffer that the next one overwrites, and wants the
        policy's outputs, float32 [action_size], sent back for each. Compiled episodes yield nothing.

        Args:
            seeds: of the episodes.
            begin: called at the start of each, before the environment is reset; not of a compiled one.
            limit: of an episode's steps.
            stepwise: yield every observation, also of what could be played compiled; the bits are the same.

        Returns:
            What the episodes gave.
        """
        self._sums[...] = 0.0
        totals, counts = [0.0] * len(self._all), [0] * len(self._all)
        steps = observations = 0
        for episode in seeds:
            one = self._all[episode.variant]
            sums = self._sums.copy() if self._scale is not None else self._sums
            if one.compiled is None or stepwise:
                begin(episode)
                episode_return, episode_steps = yield from self._episode(one, episode, limit)
            else:
                self.info = {}
                episode_return, episode_steps = one.compiled.play(
                    episode.environment,
                    episode.policy,
                    (min(one.limit, limit or one.limit), self._config.stop_after_negative),
                    self._scale or UNSCALED,
                    self._sums,
                )
            totals[episode.variant] += episode_return
            counts[episode.variant] += 1
            steps += episode_steps
            if math.isfinite(episode_return):
                observations += episode_steps  # one before each
            else:  # it may have been observed once more, before an action that is none
                self._sums[...] = sums
        returns = tuple(
            total / count if count and math.isfinite(total) else math.nan
            for total, count in zip(totals, counts, strict=True)
        )
        failed = any(math.isnan(returns[episode.variant]) for episode in seeds)
        status = Status.NOT_FINITE if failed else Status.DONE
        return Outcome(returns, steps, len(seeds), status, observations)

    def _episode(
        self, one: VariantEnvironment, seeds: EpisodeSeeds, limit: int | None
    ) -> Generator[Float32s, Float32s, tuple[float, int]]:
        """Play one episode; returns its return (NaN if an action was not finite) and its steps."""
        environment = one.begin()
        if self.watch is not None:
            environment = self.watch(environment)
        step, observe, decode = environment.step, one.observe, one.decode
        limit = min(one.limit, limit or one.limit)
        observation, _ = environment.reset(seed=seeds.environment)
        patience = self._config.stop_after_negative
        total, steps, negative = 0.0, 0, 0
        while True:
            flat = observe(observation)
            if self._scale is not None:
                actions.observe(flat, *self._scale, *self._sums)
            action = decode((yield flat))
            if action is None:
                self.info = {}
                return math.nan, steps
            observation, reward, terminated, truncated, info = step(action)
            gain = float(reward)
            total += gain
            steps += 1
            if terminated or truncated or steps >= limit:
                break
            if patience:
                negative = negative + 1 if gain < 0.0 else 0
                if negative >= patience:
                    break
        self.info = info
        return total, steps

    def close(self) -> None:
        """Close the environments."""
        for one in self._all:
            one.close()


def _variant_environment(config: EnvironmentConfig, variant: Variant) -> VariantEnvironment:
    """One variant's environment; its name is in every error."""
    try:
        return VariantEnvironment(config.of_variant(variant))
    except MissingPackageError:  # whichever the variant
        raise
    except UsageError as error:
        if not variant.name:
            raise
        raise UsageError(f"env.variants, {variant.name!r}: {error}") from error
