"""The environment's side of an episode: made, wrapped, seeded, and met by a policy as numbers in and numbers out.

``Environments`` play episodes as a generator that yields observations and is sent outputs. So one text serves both ways
of evaluating: ``Rollout`` lets one policy answer at once, ``esd.lockstep`` many in lock-step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.plugins import is_of_the_users_code
from esd.config.settings import FORMAT, EnvironmentConfig, Variant
from esd.episodes import checked
from esd.episodes.checked import BrokenEnvironmentError, MisfitError
from esd.episodes.compiled_episodes import CompiledEpisodes, CompiledSteps, HasNetwork
from esd.episodes.one_step import OneStep
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.slots import UNSCALED
from esd.episodes.variant import Environment, VariantEnvironment
from esd.errors import MissingPackageError, UsageError
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Status

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


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
        failure: why the first episode that failed did, in words; empty if none did.
    """

    returns: tuple[float, ...]
    steps: int
    episodes: int
    status: Status
    observations: int
    failure: str = field(default="", compare=False, repr=False)


def outcome_of(
    seeds: Sequence[EpisodeSeeds],
    totals: Sequence[float],
    counts: Sequence[int],
    steps: int,
    observations: int,
    failure: str = "",
) -> Outcome:
    """What episodes gave, by the sums of returns and the numbers of episodes on each variant; see ``Outcome``."""
    returns = tuple(
        [
            total / count if count and math.isfinite(total) else math.nan
            for total, count in zip(totals, counts, strict=True)
        ]
    )
    failed = any(map(math.isnan, returns)) and any(
        math.isnan(returns[episode.variant]) for episode in seeds
    )
    status = Status.NOT_FINITE if failed else Status.DONE
    return Outcome(returns, steps, len(seeds), status, observations, failure)


def no_result(variants: int, failure: str) -> Outcome:
    """What is said of something whose evaluation was cut off; ``failure``: why, in words."""
    return Outcome((math.nan,) * variants, 0, 0, Status.NO_RESULT, 0, failure)


Episodes = Generator[Float32s, Float32s, Outcome]


OF_OUTPUTS = "the policy's outputs before step"  # in what is said of a failed member
OF_ENVIRONMENT = ("the reward is ", "the observation is not finite")
REPLAYS = (
    16  # of compiled episodes that failed, to say why; a run that goes on for long needs no more
)


class Environments:
    """The trained variants as a policy meets them: flat observations in, outputs of the network back.

    Attributes:
        interface: the sizes, and whether actions are bounded; the same on all variants.
        variants: their names.
        info: what the environment said with the last step of the last episode.
        begins: is called when an episode begins; None: nobody is.
        watch: puts something around the environment of every episode that is played step by step; None: nothing.
    """

    def __init__(self, config: EnvironmentConfig, format: int = FORMAT) -> None:
        """Make the environments.

        Args:
            config: [env].
            format: of the run's config. In the first one almost any answer of an environment was taken as it came.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        self._config, self._checks = config, format > 1
        self.variants = tuple(variant.name for variant in config.trained)
        self._all = [_variant_environment(config, variant, format) for variant in config.trained]
        self.interface = self._all[0].interface
        for name, one in zip(self.variants, self._all, strict=True):
            if one.interface != self.interface:
                raise UsageError(
                    f"env.variants: {name!r} has {one.interface.described()}, but {self.variants[0]!r} has "
                    f"{self.interface.described()}; one network has to fit all variants"
                )
        self._scale: tuple[Float64s, Float64s] | None = None
        self._sums = np.zeros((2, self.interface.observation_size))
        self._failure, self._replays_left = "", REPLAYS
        self._sound: set[int] = set()  # variants that have had an episode of finite numbers
        self._not_finite: dict[int, str] = {}  # the others, with what was not
        self.info: dict[str, Any] = {}
        self.begins: Callable[[], None] | None = None
        self.watch: Callable[[Environment], Environment] | None = None

    def observation_spaces(self) -> list[tuple[str, gymnasium.Space[Any]]]:
        """Every variant's environment id and observation space."""
        return [(one.id, one.observe.space) for one in self._all]

    def refuse_useless_settings(self) -> None:
        """Refuse an ``env.max_steps``, or a change within the episode, that the end of an episode makes useless.

        Raises:
            UsageError: see ``making.refuse_useless_settings``.
        """
        if self._checks:
            for one in self._all:
                one.refuse_useless_settings()

    @property
    def never_finite(self) -> list[int]:
        """The variants that have given NaN or infinity in all of their episodes so far."""
        return [variant for variant in self._not_finite if variant not in self._sound]

    def refuse_never_finite(self) -> None:
        """Refuse environments of which no episode was finite.

        Raises:
            BrokenEnvironmentError: naming the first number that was not.
        """
        for variant in self.never_finite if self._checks else ():
            raise BrokenEnvironmentError(
                f"{self._not_finite[variant]}. No episode in the check had only finite numbers; end an episode "
                "before values overflow, or clip them"
            )

    def step_limit(self, variant: int) -> int:
        """Steps after which an episode on a variant ends at the latest."""
        return self._all[variant].limit

    def units(self, variant: int) -> dict[str, str]:
        """The results that a variant's environment tells at the end of an episode, by name with their units.

        They are what its ``metadata["results"]`` lists, such as {"distance": "m"}; their values are in ``info``.
        """
        return self._all[variant].units

    def why_stepwise(self, variant: int) -> str:
        """Why a variant that could have been played compiled is played step by step; empty if it couldn't, or is."""
        return self._all[variant].why_stepwise

    def plays_known_step(self, variant: int) -> bool:
        """Whether a variant is played by a compiled step that its environment knows nothing of."""
        one = self._all[variant]
        return (one.compiled or one.steps) is not None and one.knows_no_step

    def drop_known_step(self, variant: int, why: str) -> None:
        """Play a variant by its own step from now on."""
        one = self._all[variant]
        one.compiled = one.steps = None
        one.why_stepwise = why

    def made(self) -> Iterator[Environment]:
        """Each variant's environment, with its wrappers."""
        for one in self._all:
            yield one.environment

    @property
    def made_anew(self) -> bool:
        """Whether all of them are made again for every episode."""
        return all(one.made_anew for one in self._all)

    def left_behind(self, variant: int) -> bytes:
        """The last observation, action and reward of a variant's last compiled episode."""
        compiled = self._all[variant].compiled or self._all[variant].steps
        return b"" if compiled is None else compiled.left_behind()

    def outputs_are_squashed(self, squashed: bool) -> None:
        """Say whether the policy's outputs lie in [−1, 1] already."""
        for one in self._all:
            one.decode.outputs_are_squashed(squashed)

    def compile_with(self, policy: HasNetwork) -> None:
        """Play whole episodes with a policy, without asking for outputs, wherever that is possible."""
        for one in self._all:
            one.compile_with(policy)

    def compile_steps(self) -> None:
        """Make compiled steps wherever that is possible, for a policy that can't play whole episodes."""
        for one in self._all:
            one.compile_steps()

    @property
    def compiled(self) -> bool:
        """Whether any of the bodies plays compiled episodes."""
        return any(one.compiled is not None for one in self._all)

    @property
    def steps_compiled(self) -> bool:
        """Whether any of the bodies is played by compiled steps, by whole episodes or with outputs from Python."""
        return any((one.compiled or one.steps) is not None for one in self._all)

    def all_compiled(self) -> list[CompiledEpisodes] | None:
        """What plays compiled episodes, by variant; None unless all do."""
        found = [one.compiled for one in self._all if one.compiled is not None]
        return found if len(found) == len(self._all) else None

    def all_steps(self) -> list[CompiledSteps] | None:
        """What makes compiled steps, by variant; None unless all have it."""
        found = [one.compiled or one.steps for one in self._all]
        return [one for one in found if one is not None] if None not in found else None

    @property
    def scale(self) -> tuple[Float64s, Float64s] | None:
        """Mean and inverse deviation of observations, frozen; None without normalization."""
        return self._scale

    def use_statistics(self, statistics: ObservationStatistics) -> None:
        """Freeze the observation statistics that all following episodes are normalized by."""
        self._scale = statistics.scale() if statistics.size else None

    def sums_of_observations(self) -> bytes:
        """The bits of the sums and squares of the last evaluation's observations, if there are statistics."""
        return self._sums.tobytes()

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
        asks: bool = True,
    ) -> Episodes:
        """Play one episode per seed, of at most ``limit`` steps if given.

        Yields observations, float32 [observation_size], in a buffer that the next one overwrites, and wants the
        policy's outputs, float32 [action_size], sent back for each. Compiled episodes yield nothing.

        Args:
            seeds: of the episodes.
            begin: called at the start of each, before the environment is reset; not of a compiled one.
            limit: of an episode's steps.
            stepwise: yield every observation, also of what could be played compiled; the bits are the same.
            asks: yield observations of what is stepped in Python; False: where the policy it was compiled with can, its
                network is asked directly.

        Returns:
            What the episodes gave.
        """
        self._sums[...] = 0.0
        self._failure = ""
        totals, counts = [0.0] * len(self._all), [0] * len(self._all)
        steps = observations = 0
        for episode in seeds:
            one = self._all[episode.variant]
            if self.begins is not None:
                self.begins()
            sums = self._sums.copy() if self._scale is not None else self._sums
            if stepwise or (one.compiled is None and one.steps is None):
                begin(episode)
                think = None if stepwise or asks else one.one_step
                played = self._episode(one, episode, limit, think)
                episode_return, episode_steps = yield from played
            else:
                bounds = (
                    min(one.limit, limit or one.limit),
                    self._config.stop_after_negative,
                    self._checks,
                )
                if one.compiled is not None:
                    episode_return, episode_steps = one.compiled.play(
                        episode.environment,
                        episode.policy,
                        bounds,
                        self._scale or UNSCALED,
                        self._sums,
                    )
                    self.info = one.compiled.info(episode_steps)
                else:
                    assert one.steps is not None
                    begin(episode)
                    played = one.steps.play(episode.environment, bounds, self._scale, self._sums)
                    episode_return, episode_steps = yield from played
                    self.info = one.steps.info(episode_steps)
                if not math.isfinite(episode_return) and self._replays_left:
                    self._replays_left -= 1  # once more, to see why: the same bits, step by step
                    begin(episode)
                    yield from self._episode(one, episode, limit)
                    self.info = {}
            if math.isfinite(episode_return):
                self._sound.add(episode.variant)
            totals[episode.variant] += episode_return
            counts[episode.variant] += 1
            steps += episode_steps
            if math.isfinite(episode_return):
                observations += episode_steps  # one before each
            else:  # it may have been observed once more, before an action that is none
                self._sums[...] = sums
                self._failure = self._failure or f"{one.who}: an episode's return is not finite"
        return outcome_of(seeds, totals, counts, steps, observations, self._failure)

    def _episode(
        self,
        one: VariantEnvironment,
        seeds: EpisodeSeeds,
        limit: int | None,
        think: OneStep | None = None,
    ) -> Generator[Float32s, Float32s, tuple[float, int]]:
        """Play one episode; returns its return (NaN if a number was not finite) and its steps.

        Raises:
            BrokenEnvironmentError: if the environment raises, or returns what does not fit its spaces.
        """
        environment = one.begin()
        if self.watch is not None:
            environment = self.watch(environment)
        step, take, decode = environment.step, one.observe.take, one.decode.decode
        buffer = one.observe.buffer
        limit, checks, scale = min(one.limit, limit or one.limit), self._checks, self._scale
        patience = self._config.stop_after_negative
        total, steps, negative = 0.0, 0, 0
        info: Any = {}
        if think is not None:
            think.begin(scale, self._sums)
        action: Any = None
        answer = one.reset(environment, seeds.environment)
        try:
            observation = checked.of_reset(answer, checks)
            one.look_at(environment)
            while True:
                flat: Float32s = buffer
                if think is not None:
                    action, seen = think(observation), think.saw
                elif seen := take(observation):
                    if scale is not None:
                        flat = one.observe.normalize(flat, scale, self._sums)
                    action = decode((yield flat))
                if not seen:
                    self._note_not_finite(one, seeds, steps, checked.not_finite(flat))
                    self.info = {}
                    return math.nan, steps
                if action is None:
                    self._failure = self._failure or (
                        f"{one.who}: {OF_OUTPUTS} {steps + 1} are NaN or infinite"
                    )
                    self.info = {}
                    return math.nan, steps
                try:
                    answer = step(action)
                except BaseException as error:
                    if not is_of_the_users_code(error):
                        raise
                    raise checked.raised(one.who, checked.call(steps + 1), error) from error
                steps += 1
                if type(answer) is not tuple or len(answer) != 5:
                    answer = checked.of_step(answer)
                observation, gain, terminated, truncated, info = answer
                if type(gain) is not float:
                    gain = checked.reward(gain, checks)
                total += gain
                if gain - gain != 0.0:  # of NaN and infinity alone
                    self._note_not_finite(one, seeds, steps, f"the reward is {gain}")
                if checks and (type(terminated) is not bool or type(truncated) is not bool):
                    terminated = checked.end("terminated", terminated)
                    truncated = checked.end("truncated", truncated)
                if terminated or truncated or steps >= limit:
                    break
                if patience:
                    negative = negative + 1 if gain < 0.0 else 0
                    if negative >= patience:
                        break
            if checks:
                take(observation)
                info = checked.info(info)
        except MisfitError as error:
            raise one.misfit(steps, error) from error.__cause__
        self.info = info
        return total, steps

    def _note_not_finite(
        self, one: VariantEnvironment, seeds: EpisodeSeeds, steps: int, what: str
    ) -> None:
        """Remember that, and where, an environment has given a number that is not finite."""
        if not self._failure:
            self._failure = f"{one.who}, {checked.call(steps)}: {what}"
            self._not_finite.setdefault(seeds.variant, self._failure)

    def make_anew(self) -> None:
        """Make those that are played step by step anew before their next episodes: the last one was cut off."""
        for one in self._all:
            one.make_anew()

    def close(self) -> None:
        """Close the environments."""
        for one in self._all:
            one.close()


def _variant_environment(
    config: EnvironmentConfig, variant: Variant, format: int
) -> VariantEnvironment:
    """One variant's environment; its name is in every error."""
    try:
        return VariantEnvironment(config.of_variant(variant), format, variant.name)
    except MissingPackageError:  # whichever the variant
        raise
    except UsageError as error:
        if not variant.name:
            raise
        raise UsageError(f"env.variants, {variant.name!r}: {error}") from error
