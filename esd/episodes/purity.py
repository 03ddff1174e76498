"""Is an episode a pure function of its seeds and the member's parameters, whatever was played before (law 1)?

Episodes are repeated behind different histories, and everything that passes is compared: observations, rewards,
ends and the policy's outputs. The first thing that differs came from the culprit, because all that it had been given
until then was the same. What is found is explained in ``culprit``.

How much is played is counted in steps, so that every rank comes to the same conclusion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from esd.episodes.environments import Outcome
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.evolution.algorithm import Algorithm
from esd.evolution.noise import Purpose
from esd.evolution.state import RunState

POLICY, ENVIRONMENT, CALLER = "policy", "environment", ""
MEMBER, OTHER_MEMBER = 1, 0  # a mirrored pair
DEEPEST = 8  # nesting of what an environment returns


class Event(NamedTuple):
    """Something that passed from one to another.

    Attributes:
        who: gave it: POLICY, ENVIRONMENT or the name of a wrapper's class.
        what: it is.
        step: of the episode; 0 in reset.
        digest: of its bits, comparable within one process.
    """

    who: str
    what: str
    step: int
    digest: int


Episode = list[Event]


@dataclass(frozen=True)
class Plan:
    """How much is played on each variant.

    Attributes:
        steps: of the episodes that are repeated, at most.
        long: of one episode that may come to its end.
        again: as much of it as is repeated.
        others: how often an episode of a few steps is repeated, one time after the other: what leaks into every
            tenth episode shows in one of ten.
        few: how many steps these have; at most ``steps``.
        total: of all long episodes together, over the variants.
    """

    steps: int = 32
    long: int = 1024
    again: int = 256
    others: int = 16
    few: int = 4
    total: int = 4096


AT_START = Plan()
# an object that is made for one episode can't leak into another, and making it may take long (a CarRacing: 0.5 s)
AT_START_MADE_ANEW = Plan(long=128, again=64, others=2)
THOROUGH = Plan(steps=64, long=4096, again=2048, others=150, few=64, total=40_000)


@dataclass(frozen=True)
class Difference:
    """An episode that was another one when it was repeated.

    Attributes:
        history: what had been played in between.
        event: the first thing that differed.
        variant: it was played on.
    """

    history: str
    event: Event
    variant: int


def digest_of(value: Any, depth: int = 0) -> int:
    """A number made of all bits of a value; of what is not made of numbers and text, of its type alone."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return hash((value.shape, value.dtype.str, value.tobytes()))
    if value is None or isinstance(value, bool | int | str | bytes):
        return hash(value)
    if isinstance(value, float | np.generic):
        return hash(value.hex() if isinstance(value, float) else value.tobytes())
    if depth > DEEPEST:
        return 0
    if isinstance(value, Mapping):
        pairs = [(str(key), digest_of(item, depth + 1)) for key, item in value.items()]
        return hash(tuple(sorted(pairs)))
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
        return hash(tuple(digest_of(item, depth + 1) for item in value))
    try:
        array = np.asarray(value)
    except Exception:  # whatever an object raises that is asked for its numbers
        return hash(type(value).__name__)
    return hash(type(value).__name__) if array.dtype == object else digest_of(array, depth + 1)


class Log:
    """What has passed in an episode."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.events: Episode = []
        self.step = 0

    def add(self, who: str, what: str, value: Any) -> None:
        """Add what somebody gave; what we give ourselves (CALLER) follows from the rest."""
        if who != CALLER:
            self.events.append(Event(who, what, self.step, digest_of(value)))


class Probe(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Between an environment and who calls it: keeps what passes in a log, and changes nothing of it."""

    _own = ("env", "_log", "_above", "_below")

    def __init__(self, env: gymnasium.Env[Any, Any], log: Log, above: str, below: str) -> None:
        """Stand between two, named for the log."""
        super().__init__(env)
        self._log, self._above, self._below = log, above, below

    def __getattr__(self, name: str) -> Any:
        """A wrapper may ask its environment for anything."""
        if name in Probe._own:  # not there yet
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, *positional: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment does it; it gets what it would get without us, as its ``reset`` may know no options."""
        log = self._log
        if self._above == CALLER:
            log.step = 0
        log.add(self._above, "seed", (positional, arguments))
        returned = self.env.reset(*positional, **arguments)
        log.add(self._below, "observation", returned[0] if _is_tuple(returned, 2) else returned)
        return returned

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment does it."""
        log, below = self._log, self._below
        if self._above == CALLER:
            log.step += 1
        log.add(self._above, "action", action)
        returned = self.env.step(action)
        if not _is_tuple(returned, 5):
            log.add(below, "result", returned)
            return returned
        observation, reward, *ends, _ = returned
        ended = [_as_bool(end) for end in ends]
        if not any(end is True for end in ended):  # nobody acts on the last observation
            log.add(below, "observation", observation)
        log.add(below, "reward", reward)
        log.add(below, "end", ended)
        return returned


def _as_bool(value: Any) -> Any:
    """Whether an episode has ended; a value that has no truth is refused by who gets it, and stays as it is."""
    try:
        return bool(value)
    except Exception:  # of an array
        return value


def _is_tuple(value: Any, size: int) -> bool:
    return isinstance(value, tuple) and len(value) == size


def probed(env: gymnasium.Env[Any, Any], log: Log, everywhere: bool) -> Probe:
    """An environment that is looked at from outside or, for good, between all of its wrappers."""
    if not everywhere:
        return Probe(env, log, CALLER, ENVIRONMENT)
    one: Any = env
    while isinstance(one, gymnasium.Wrapper):
        inner: Any = one.env
        if isinstance(inner, Probe):  # of an episode before
            inner._log = log
            inner = inner.env
        else:
            one.env = Probe(inner, log, _name_of(one), _name_of(inner))
        one = inner
    return Probe(env, log, CALLER, _name_of(env))


def _name_of(env: gymnasium.Env[Any, Any]) -> str:
    return type(env).__name__ if isinstance(env, gymnasium.Wrapper) else ENVIRONMENT


def seeds_of(rollout: Rollout, variant: int, number: int) -> EpisodeSeeds:
    """The seeds of an episode by its number; the first ones are the canary's."""
    return EpisodeSeeds.named(rollout.config.seed, Purpose.CANARY, 0, 0, number, variant=variant)


class Player:
    """A rollout under watch, and its members 0 and 1.

    Attributes:
        gave: hash of the outputs, returns and lengths of the episodes of ``differences``, comparable between processes;
            empty before.

    Args:
        rollout: environment and policy.
        algorithm: makes the members.
        state: at the start of the run.
        everywhere: look between all wrappers; those of an environment that is kept stay changed.
    """

    def __init__(
        self, rollout: Rollout, algorithm: Algorithm, state: RunState, everywhere: bool = False
    ) -> None:
        """Play members of a state."""
        self.rollout, self._algorithm, self._state = rollout, algorithm, state
        self.gave, self._heard = "", hashlib.sha256()
        self._everywhere = everywhere
        rollout.use_statistics(state.observations)

    def begin(self) -> None:
        """Go back to the first member, and to the statistics that it was watched with."""
        self.rollout.use_statistics(self._state.observations)
        self.load(MEMBER)

    def of(self, rollout: Rollout) -> Player:
        """The same members in another rollout."""
        return Player(rollout, self._algorithm, self._state, self._everywhere)

    def load(self, member: int) -> None:
        """Give the policy a member's parameters."""
        self.rollout.load(self._algorithm.ask_pieces(self._state.evolution, member))

    def play(
        self,
        variant: int,
        number: int,
        steps: int,
        compiled: bool = False,
        told: Callable[[bytes], object] | None = None,
    ) -> Episode:
        """Play an episode.

        Args:
            variant: on which.
            number: of the episode.
            steps: at most.
            compiled: as members are played where the environment offers compiled functions.
            told: gets the bits of each of the policy's outputs, too.
        """
        rollout, log = self.rollout, Log()
        seeds = seeds_of(rollout, variant, number)
        if compiled:
            outcome = rollout.play([seeds], steps)
            self._hear(outcome)
            log.add(ENVIRONMENT, "return", (outcome.returns[variant], outcome.steps))
            log.add(ENVIRONMENT, "state", rollout.environments.left_behind(variant))
            return log.events

        def overheard(bits: bytes) -> None:
            log.add(POLICY, "output", bits)
            self._heard.update(bits)
            if told is not None:
                told(bits)

        rollout.environments.watch = lambda env: probed(env, log, self._everywhere)
        try:
            self._hear(rollout.play([seeds], steps, stepwise=True, told=overheard))
        finally:
            rollout.environments.watch = None
        return log.events

    def settle(self) -> None:
        """All that is to be compared with other processes has been played."""
        self.gave = self._heard.hexdigest()

    def _hear(self, outcome: Outcome) -> None:
        self._heard.update(f"{outcome.returns!r} {outcome.steps}".encode())


def difference_between(first: Episode, again: Episode) -> Event | None:
    """The first event that differs; an episode may have been cut short when it was repeated."""
    for before, now in zip(first, again, strict=False):
        if before != now:
            return now
    return again[len(first)] if len(again) > len(first) else None


def differences(player: Player, plan: Plan) -> Iterator[Difference]:
    """Play episodes again behind different histories, and tell which were others."""
    variants = range(len(player.rollout.variants))
    long = min(plan.long, max(plan.again, plan.total // len(variants)))
    one, other, third = 0, 1, 2
    player.load(MEMBER)
    first: dict[tuple[int, int], Episode] = {}

    def again(variant: int, number: int, steps: int, history: str) -> Iterator[Difference]:
        found = difference_between(first[variant, number], player.play(variant, number, steps))
        if found is not None:
            yield Difference(history, found, variant)

    for variant in variants:
        first[variant, one] = player.play(variant, one, plan.steps)
        yield from again(variant, one, plan.steps, "repeated")
    for variant in variants:
        first[variant, other] = player.play(variant, other, plan.steps)
        first[variant, third] = player.play(variant, third, long)
        for steps in (*[plan.few] * plan.others, plan.steps):
            yield from again(variant, one, steps, "repeated after other episodes")
    player.load(OTHER_MEMBER)
    for variant in reversed(variants):
        player.play(variant, other, plan.steps)
    player.load(MEMBER)
    for variant in reversed(variants):
        for number, steps in ((other, plan.steps), (third, plan.again), (one, plan.steps)):
            yield from again(variant, number, steps, "repeated after another member")
    if player.rollout.environments.steps_compiled:
        yield from _compiled_differences(player, plan)
    player.settle()


def _compiled_differences(player: Player, plan: Plan) -> Iterator[Difference]:
    """The same for compiled functions, of which only the end of an episode can be seen."""
    variants = range(len(player.rollout.variants))
    both = [(variant, number) for variant in variants for number in (0, 1)]
    first = {which: player.play(*which, plan.steps, compiled=True) for which in both}
    player.load(OTHER_MEMBER)
    for which in both:
        player.play(*which, plan.few, compiled=True)
    player.load(MEMBER)
    for which in reversed(both):
        found = difference_between(first[which], player.play(*which, plan.steps, compiled=True))
        if found is not None:
            yield Difference("repeated by its compiled functions", found, which[0])


def new_object_differs(player: Player, new: Player, steps: int) -> Iterator[Difference]:
    """Whether a rollout of which something was made anew plays other episodes: as another rank's would.

    The new one begins with another member, as another rank may.
    """
    new.load(OTHER_MEMBER)
    for one in (player, new):
        one.load(MEMBER)
    for variant in range(len(player.rollout.variants)):
        found = difference_between(*(one.play(variant, 0, steps) for one in (player, new)))
        if found is not None:
            yield Difference("repeated in a new object", found, variant)
