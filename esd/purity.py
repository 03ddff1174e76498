"""Is an environment a pure function of its seed and the actions, whatever was played before (law 1)?

An environment is played as members meet it, through ``World``, with random outputs in place of a network's. One
episode is played again and again after different histories; its trace, a hash of every observation, reward and end,
has to stay the same. ``esd doctor`` and the contract of the shipped environments run the same checks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from esd.config import EnvironmentConfig, Wrapper
from esd.config_tables import parse, to_table
from esd.doctor import Check, State, failed, note, ok, told
from esd.errors import UsageError
from esd.spaces import ActionDecoder, ObservationFlattener
from esd.world import EpisodeSeeds, World, keeps_box2d_world, make_environment, step_limit

STEPS = 300
SEED, OTHER_SEED, THIRD_SEED = 1, 2, 3
FRESH_PROCESS_SECONDS = 180.0
# "twice" and so on: what is played before the episode that is looked at, in the same object
HISTORIES = ("twice", "after others", "after an abandoned episode", "after an exception in step")


@dataclasses.dataclass(frozen=True)
class Trace:
    """What an episode was.

    Attributes:
        digest: 16 hexadecimal digits over every observation, reward and end.
        steps: its length.
    """

    digest: str
    steps: int


class Crashed(Exception):  # noqa: N818  # nobody's error but ours
    """Raised on purpose inside of an environment's step."""


class Watch:
    """What a ``Probe`` has seen, and what it is to do; it outlives an environment that is made anew.

    Attributes:
        steps: how many there were.
        step_seconds: spent in steps.
        reset_seconds: for each episode what its begin took, making the environment anew included if it is.
        episode_steps: of the episode under way.
        not_finite: the first NaN or infinity, in words; empty without.
        global_draws: whether Python's or numpy's global generator was used.
        crash_at: the step of an episode, counted from 0, in which to raise an exception; None for never.
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.steps = self.episode_steps = 0
        self.step_seconds = 0.0
        self.reset_seconds: list[float] = []
        self.not_finite = ""
        self.global_draws = False
        self.crash_at: int | None = None
        self.begin()

    def begin(self) -> None:
        """Start the trace of another episode, before the environment is made anew or reset."""
        self._digest, self.episode_steps = hashlib.sha256(), 0
        self._generators, self._began = global_generators(), time.perf_counter()

    def was_reset(self) -> None:
        """The environment is ready, its first observation not looked at yet."""
        self.reset_seconds.append(time.perf_counter() - self._began)
        self.global_draws |= global_generators() != self._generators

    def trace(self) -> Trace:
        """Of the episode so far."""
        return Trace(self._digest.hexdigest()[:16], self.episode_steps)

    def observed(self, space: spaces.Space[Any], observation: Any) -> None:
        """Add an observation."""
        flat = np.asarray(spaces.flatten(space, observation))
        self._digest.update(flat.tobytes())
        if not self.not_finite and flat.dtype.kind == "f" and not np.isfinite(flat).all():
            self.not_finite = f"an observation has {flat[~np.isfinite(flat)][0]} in it"
            self.not_finite += f" after {self.episode_steps} steps"

    def stepped(self, reward: float, terminated: bool, truncated: bool) -> None:
        """Add what a step gave beside its observation."""
        self.steps += 1
        self.episode_steps += 1
        self._digest.update(np.array([reward, terminated, truncated], np.float64).tobytes())
        if not self.not_finite and not math.isfinite(reward):
            self.not_finite = f"the reward of step {self.episode_steps} is {reward}"


class Probe(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost wrapper, which shows a ``Watch`` all that passes."""

    def __init__(self, env: gymnasium.Env[Any, Any], watch: Watch) -> None:
        """Look at an environment."""
        super().__init__(env)
        self._watch = watch

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment does it."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._watch.was_reset()
        self._watch.observed(self.observation_space, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment does it, unless it is to crash."""
        if self._watch.episode_steps == self._watch.crash_at:
            crash_in(self.env, action)
        generators = global_generators()
        began = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._watch.step_seconds += time.perf_counter() - began
        self._watch.global_draws |= global_generators() != generators
        self._watch.stepped(float(reward), terminated, truncated)
        self._watch.observed(self.observation_space, observation)
        return observation, reward, terminated, truncated, info


def crash_in(env: gymnasium.Env[Any, Any], action: Any) -> None:
    """Take a step and raise in the middle of the environment's own ``step``, or behind it if that is no Python.

    Raises:
        Crashed: always, unless the environment itself raises something else.
    """
    code = getattr(type(env.unwrapped).step, "__code__", None)
    lines = sorted({line for _, _, line in code.co_lines() if line}) if code is not None else []

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return" or frame.f_lineno >= lines[len(lines) // 2]:
            raise Crashed
        return inside

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return inside if frame.f_code is code else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        env.step(action)
    finally:
        sys.settrace(before)
    raise Crashed


def global_generators() -> tuple[Any, ...]:
    """Where Python's and numpy's global generators stand."""
    _, key, *rest = np.random.get_state()  # noqa: NPY002  # whether an environment has used it
    return (random.getstate(), np.asarray(key).tobytes(), *rest)


class Player:
    """An environment under watch, and episodes of random outputs, which depend on the seed alone.

    Attributes:
        watch: what was seen.
    """

    def __init__(self, config: EnvironmentConfig, steps: int) -> None:
        """Make the environment, for episodes of at most so many steps.

        Raises:
            UsageError: as ``World`` does.
        """
        self.watch = Watch()
        probe = Wrapper(f"{__name__}:{Probe.__name__}", {"watch": self.watch})
        self._world = World(
            dataclasses.replace(
                config,
                wrappers=(*config.wrappers, probe),
                max_steps=min(config.max_steps or steps, steps),
                normalize_observations=False,
            )
        )
        self._world.outputs_are_squashed(True)

    def play(self, seed: int) -> Trace:
        """Play an episode to its end."""
        for _ in self.steps(seed):
            pass
        return self.watch.trace()

    def steps(self, seed: int) -> Iterator[int]:
        """Play an episode, one step for each number that is asked for; what is left of it may be left."""
        outputs = np.random.default_rng(seed)
        episode = self._world.play([EpisodeSeeds(seed, seed)], self._begin)
        next(episode)
        size, count = self._world.interface.action_size, 0
        while True:
            try:
                episode.send(outputs.uniform(-1.0, 1.0, size).astype(np.float32))
            except StopIteration:
                return
            count += 1
            yield count

    def _begin(self, seeds: EpisodeSeeds) -> None:
        """Seed what a rollout seeds."""
        random.seed(seeds.environment)
        np.random.seed(seeds.environment)  # noqa: NPY002
        self.watch.begin()

    def abandon(self, seed: int, steps: int) -> None:
        """Play some steps of an episode (at least one) and leave it there, as an exception in a policy does."""
        for count in self.steps(seed):
            if count >= steps:
                return

    def crash(self, seed: int, steps: int) -> None:
        """Play some steps of an episode, then raise inside of the environment's own ``step``."""
        self.watch.crash_at = steps
        try:
            self.play(seed)
        except Crashed:
            return
        finally:
            self.watch.crash_at = None

    def close(self) -> None:
        """Close the environment."""
        self._world.close()


def replay(config: EnvironmentConfig, steps: int) -> Trace:
    """The episode that all others are compared with, in a new environment."""
    player = Player(config, steps)
    try:
        return player.play(SEED)
    finally:
        player.close()


def examine(
    config: EnvironmentConfig, steps: int = STEPS, lockstep: bool = False
) -> Iterator[Check]:
    """Examine an environment, one line after the other.

    Args:
        config: the environment as it will be trained on, of one variant.
        steps: of an episode at most.
        lockstep: episodes will be interleaved (``batch_members``, ``device = "cuda"``).

    Raises:
        UsageError: if there is no such environment, or it can't be made with these arguments.
    """
    checks: list[Check] = []
    for check in _fitting(config):
        checks.append(check)
        yield check
    if any(check.state is State.FAILED and check.name != "step limit" for check in checks):
        return
    try:
        yield from _played(config, steps, lockstep)
    except UsageError:
        raise
    except Exception as error:  # whatever a user's environment raises
        yield failed(
            "plays",
            f"raised {_told_error(error)} at random actions; every rank would end with that",
        )


def _told_error(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _fitting(config: EnvironmentConfig) -> Iterator[Check]:
    """Whether it can be made, and has what a policy needs."""
    try:
        env = make_environment(config)
    except UsageError:
        raise
    except Exception as error:
        yield failed("made and closed", f"making it raised {_told_error(error)}")
        return
    looks: dict[str, Callable[[], str]] = {
        "observations": lambda: _observations(env, config),
        "actions": lambda: _actions(env, config),
        "step limit": lambda: f"{step_limit(env, config):,} steps",
    }
    for name, look in looks.items():
        try:
            yield ok(name, look())
        except UsageError as error:
            yield failed(name, str(error))
    keeps = keeps_box2d_world(env)
    try:
        env.close()
    except Exception as error:
        yield failed("made and closed", f"closing it raised {_told_error(error)}")
        return
    if keeps and config.rebuild == "never":
        yield note(
            "made and closed",
            'keeps a Box2D world, in which the last episode lives on: take env.rebuild = "auto", whatever the checks '
            "below have seen",
        )
        return
    text = 'made anew for every episode, because it keeps a Box2D world (env.rebuild = "auto")'
    yield ok("made and closed", text if keeps and config.rebuild == "auto" else "")


def _observations(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    size = ObservationFlattener(env.observation_space, config.id).size
    return f"{size:,} numbers, {type(env.observation_space).__name__}"


def _actions(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    size = ActionDecoder(env.action_space, config.id).size
    return f"{size:,} outputs, {type(env.action_space).__name__}"


def _played(config: EnvironmentConfig, steps: int, lockstep: bool) -> Iterator[Check]:
    """All that is found by playing."""
    here = Player(config, steps)
    first = here.play(SEED)
    others = [here.play(seed) for seed in (OTHER_SEED, THIRD_SEED)]
    yield _seeded(first, others)
    leaks = []
    for name, again in histories(here, others[0].steps // 3):
        check = told(again == first, name, _difference(first, again))
        leaks += [check] if check.state is State.FAILED else []
        yield check
    fresh = replay(config, steps)
    yield (fresh_object := told(fresh == first, "a fresh object", _difference(first, fresh)))
    yield from _elsewhere(config, steps, first, fresh)
    if leaks or fresh_object.state is State.FAILED:
        yield _mended(config, steps)
    yield _finite(here.watch)
    yield _global_draws(here.watch, lockstep)
    yield _side_by_side(config, steps, first, lockstep)
    yield _speed(here)
    here.close()


def _difference(expected: Trace, found: Trace) -> str:
    if expected.steps != found.steps:
        return f"the same seed and actions gave {found.steps} steps, not {expected.steps}"
    return f"the same seed and actions gave other observations, rewards or ends ({expected.steps} steps)"


def histories(player: Player, early: int) -> Iterator[tuple[str, Trace]]:
    """The episode with SEED again, behind each of HISTORIES, in one object that has played it first.

    Args:
        player: has the object.
        early: steps after which an episode is abandoned, or crashes.
    """
    preludes: dict[str, Callable[[], object]] = {
        "twice": lambda: player.play(SEED),
        "after others": lambda: [player.play(seed) for seed in (THIRD_SEED, OTHER_SEED)],
        "after an abandoned episode": lambda: player.abandon(OTHER_SEED, early),
        "after an exception in step": lambda: player.crash(OTHER_SEED, early),
    }
    for name in HISTORIES:
        preludes[name]()
        yield name, player.play(SEED)


def _seeded(first: Trace, others: list[Trace]) -> Check:
    if all(other == first for other in others):
        return note(
            "seeds",
            "three seeds and three sequences of actions gave one and the same episode: does reset(seed=…) pass its "
            "seed on with super().reset(seed=seed)?",
        )
    return ok("seeds", "different seeds give different episodes")


def _elsewhere(
    config: EnvironmentConfig, steps: int, first: Trace, fresh: Trace
) -> Iterator[Check]:
    """Another process has another hash seed, other addresses and an empty history: as another rank does."""
    name = "a fresh process"
    try:
        there = in_a_fresh_process(config, steps)
    except UsageError as error:
        yield failed(name, str(error))
        return
    text = _difference(first, there)
    if fresh == first:
        text += ": it depends on the process, such as on the order of a set, the time or an unseeded generator"
    yield told(there == first, name, text)


def in_a_fresh_process(config: EnvironmentConfig, steps: int) -> Trace:
    """``replay`` in a process of its own, with another hash seed.

    Raises:
        UsageError: if it fails or takes too long.
    """
    words = json.dumps({"env": to_table(config), "steps": steps})
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {__name__}; {__name__}.main()"],
            input=words,
            env={**os.environ, "PYTHONHASHSEED": "random"},
            capture_output=True,
            text=True,
            timeout=FRESH_PROCESS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"did not end within {FRESH_PROCESS_SECONDS:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise UsageError(f"ended with code {done.returncode}: {last}")
    return Trace(**json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """What ``in_a_fresh_process`` runs: settings on stdin, the trace as the last line of stdout."""
    asked = json.load(sys.stdin)
    config = parse({"env": asked["env"]}, "the environment").env
    print(json.dumps(dataclasses.asdict(replay(config, asked["steps"]))), flush=True)


def _mended(config: EnvironmentConfig, steps: int) -> Check:
    """Whether making the environment anew for every episode would help."""
    name = "env.rebuild"
    outside = (
        "the environment keeps something outside of its object (in a class, a module, a file), or draws from a "
        "generator that no seed reaches; that has to be mended in its code"
    )
    if config.rebuild == "always":
        return note(name, f'"always" doesn\'t mend it: {outside}')
    always = dataclasses.replace(config, rebuild="always")
    player = Player(always, steps)
    first = player.play(SEED)
    pure = all(again == first for _, again in histories(player, first.steps // 3))
    pure = pure and replay(always, steps) == first
    cost = 1000.0 * median(player.watch.reset_seconds)
    player.close()
    if pure:
        return note(
            name,
            f'set env.rebuild = "always": with it the same checks pass, at {cost:.3g} ms per episode. Better, let '
            "reset() set everything that step() changes",
        )
    return note(name, f'"always" wouldn\'t mend it: {outside}')


def _finite(watch: Watch) -> Check:
    return told(
        not watch.not_finite,
        "finite numbers",
        f"{watch.not_finite}; such a member has no fitness and ranks last. If physics explodes, end the episode "
        "before (terminated), or clip",
    )


def _global_draws(watch: Watch, lockstep: bool) -> Check:
    name = "its own generator"
    if not watch.global_draws:
        return ok(name)
    text = (
        "draws from Python's or numpy's global generator: episodes one after the other are seeded for it, but "
        'device = "cuda" and batch_members are refused. Let it draw from self.np_random'
    )
    return failed(name, text) if lockstep else note(name, text)


def _side_by_side(config: EnvironmentConfig, steps: int, first: Trace, lockstep: bool) -> Check:
    """Two episodes interleaved, as in lock-step."""
    name = "two at once"
    one, other = Player(config, steps), Player(config, steps)
    running, beside = one.steps(SEED), other.steps(OTHER_SEED)
    next(beside, None)  # the other one was begun last, and is stepped in between
    for _ in running:
        next(beside, None)
    same = one.watch.trace() == first
    one.close()
    other.close()
    if same:
        return ok(name)
    text = (
        "an episode is another one while a second object is played beside it: they share something, or a global "
        'generator. One after the other they don\'t meet, but batch_members and device = "cuda" interleave them'
    )
    return failed(name, text) if lockstep else note(name, text)


def _speed(player: Player) -> Check:
    watch = player.watch
    rate = watch.steps / watch.step_seconds
    reset = 1000.0 * median(watch.reset_seconds)
    return Check(
        "speed",
        State.OK,
        f"{rate:,.0f} steps/s, {reset:.3g} ms per reset: the bare environment, on one core",
        {"steps_per_second": rate, "reset_milliseconds": reset},
    )
