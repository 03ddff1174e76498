"""Is an environment a pure function of its seed and the actions, whatever was played before (law 1)?

An environment is played under watch, with random outputs in place of a network's (``recorded_episodes``). One episode
is played again and again after different histories; a hash of every observation, reward and end, has
to stay the same. ``esd doctor`` and the contract of the shipped environments run the same checks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import gymnasium

from esd.config.another_python import with_esd
from esd.config.plugins import is_of_the_users_code
from esd.config.policies import PolicyConfig
from esd.config.settings import Config, EnvironmentConfig
from esd.config.tables import parse, to_table
from esd.doctor.machine import Check, Verdict, failed, note, ok, told
from esd.doctor.many_episodes import culprit
from esd.doctor.recorded_episodes import EpisodeHash, Watch, WatchedEnvironment
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.making import (
    keeps_box2d_world,
    make_environment,
    refuse_useless_settings,
    step_limit,
)
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.episodes.stateful_wrappers import refuse_in, refuse_named
from esd.errors import UsageError
from esd.evolution.observations import ObservationStatistics
from esd.policies.hebbian import HebbianSettings

STEPS = 300
SEED, OTHER_SEED, THIRD_SEED = 1, 2, 3
FRESH_PROCESS_SECONDS = 180.0
AGAIN, STEPS_AGAIN = (
    100,
    10_000,
)  # how often the episode is played again in the end, and in how many steps at most
# "twice" and so on: what is played before the episode that is looked at, in the same object
SAME = "the same episode"
HISTORIES = ("twice", "after others", "after an abandoned episode", "after an exception in step")


def hash_of_episode(config: EnvironmentConfig, steps: int) -> EpisodeHash:
    """The episode that all others are compared with, in a new environment."""
    player = WatchedEnvironment(config, steps)
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
    if any(check.state is Verdict.FAILED and check.name != "step limit" for check in checks):
        return
    try:
        yield from _played(config, steps, lockstep)
    except BrokenEnvironmentError as error:
        yield failed("plays", str(error))
    except UsageError:
        raise
    except Exception as error:  # whatever a user's environment raises
        yield failed(
            "plays",
            f"raised {_told_error(error)} with random actions; training would stop with this error",
        )


def _told_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _fitting(config: EnvironmentConfig) -> Iterator[Check]:
    """Whether it can be made, and has what a policy needs."""
    try:
        refuse_named(config)
    except UsageError as error:
        yield failed("wrappers", str(error))
        return
    try:
        env = make_environment(config)
    except UsageError:
        raise
    except Exception as error:
        yield failed("created and closed", f"creating it raised {_told_error(error)}")
        return
    looks: dict[str, Callable[[], str]] = {
        "observations": lambda: _observations(env, config),
        "actions": lambda: _actions(env, config),
        "step limit": lambda: _step_limit(env, config),
        "wrappers": lambda: _wrappers(env, config),
    }
    for name, look in looks.items():
        try:
            yield ok(name, look())
        except UsageError as error:
            yield failed(name, str(error))
    keeps = keeps_box2d_world(env)
    try:
        env.close()
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        yield failed("created and closed", f"closing it raised {_told_error(error)}")
        return
    if keeps and config.rebuild == "never":
        yield note(
            "created and closed",
            "keeps a Box2D world, which carries state of the last episode into the next one: set env.rebuild = "
            '"auto", even if the checks below pass',
        )
        return
    text = 'created again for every episode, because it keeps a Box2D world (env.rebuild = "auto")'
    yield ok("created and closed", text if keeps and config.rebuild == "auto" else "")


def _step_limit(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    refuse_useless_settings(env, config)
    return f"{step_limit(env, config):,} steps"


def _observations(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    size = ObservationFlattener(env.observation_space, config.id).size
    return f"{size:,} numbers, {type(env.observation_space).__name__}"


def _wrappers(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    refuse_in(env, config.id)
    return ""


def _actions(env: gymnasium.Env[Any, Any], config: EnvironmentConfig) -> str:
    size = ActionDecoder(env.action_space, config.id).size
    return f"{size:,} outputs, {type(env.action_space).__name__}"


def _played(config: EnvironmentConfig, steps: int, lockstep: bool) -> Iterator[Check]:
    """All that is found by playing."""
    here = WatchedEnvironment(config, steps)
    try:
        first = here.play(SEED)
    except BrokenEnvironmentError:
        # without the probe, which has met the wrong answer first, it is said as a training says it
        WatchedEnvironment(config, steps, probed=False).play(SEED)
        raise
    others = [here.play(seed) for seed in (OTHER_SEED, THIRD_SEED)]
    yield _seeded(first, others)
    leaks = []
    for name, again in histories(here, others[0].steps // 3):
        check = told(again == first, name, _difference(first, again), "the same episode again")
        leaks += [check] if check.state is Verdict.FAILED else []
        yield check
    yield (often := _often(here, first))
    leaks += [often] if often.state is Verdict.FAILED else []
    fresh = hash_of_episode(config, steps)
    yield (fresh_object := told(fresh == first, "a new object", _difference(first, fresh), SAME))
    yield from _elsewhere(config, steps, first, fresh)
    if leaks or fresh_object.state is Verdict.FAILED:
        yield from culprit(config)
        yield _mended(config, steps)
    yield _finite(here.watch)
    yield _global_draws(here.watch, lockstep)
    yield _side_by_side(config, steps, first, lockstep)
    yield from _compiled(config, steps)
    yield _speed(here)
    here.close()


def _difference(expected: EpisodeHash, found: EpisodeHash) -> str:
    if expected.steps != found.steps:
        return f"the same seed and actions gave {found.steps} steps, not {expected.steps}"
    return f"the same seed and actions gave other observations, rewards or episode ends ({expected.steps} steps)"


def histories(player: WatchedEnvironment, early: int) -> Iterator[tuple[str, EpisodeHash]]:
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


def _often(player: WatchedEnvironment, first: EpisodeHash) -> Check:
    """What leaks only once in a while, or after many steps."""
    times = max(3, min(AGAIN, STEPS_AGAIN // max(1, first.steps)))
    for number in range(1, times + 1):
        again = player.play(SEED)
        if again != first:
            return failed(
                "many times", f"{_difference(first, again)} in repetition {number} of {times}"
            )
    return ok("many times", f"the same episode {times} times")


def _seeded(first: EpisodeHash, others: list[EpisodeHash]) -> Check:
    if all(other == first for other in others):
        return note(
            "seeds",
            "three seeds and three sequences of actions gave the same episode: check that reset(seed=…) calls "
            "super().reset(seed=seed)",
        )
    return ok("seeds", "different seeds give different episodes")


def _elsewhere(
    config: EnvironmentConfig, steps: int, first: EpisodeHash, fresh: EpisodeHash
) -> Iterator[Check]:
    """Another process has another hash seed, other addresses and an empty history: as another rank does."""
    name = "a new process"
    try:
        there = in_a_fresh_process(config, steps)
    except UsageError as error:
        yield failed(name, str(error))
        return
    text = _difference(first, there)
    if fresh == first:
        text += (
            ": it depends on the process, for example on the order of a set, on the time or on an unseeded "
            "generator"
        )
    yield told(there == first, name, text, SAME)


def in_a_fresh_process(config: EnvironmentConfig, steps: int) -> EpisodeHash:
    """``replay`` in a process of its own, with another hash seed.

    Raises:
        UsageError: if it fails or takes too long.
    """
    words = json.dumps({"env": to_table(config), "steps": steps})
    try:
        done = subprocess.run(
            with_esd(f"import {__name__}; {__name__}.main()"),
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
        last = (done.stderr.strip().splitlines() or ["without a message"])[-1]
        raise UsageError(f"ended with code {done.returncode}: {last}")
    return EpisodeHash(**json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """What ``in_a_fresh_process`` runs: settings on stdin, the hash as the last line of stdout."""
    asked = json.load(sys.stdin)
    config = parse({"env": asked["env"]}, "the environment").env
    print(json.dumps(dataclasses.asdict(hash_of_episode(config, asked["steps"]))), flush=True)


def _mended(config: EnvironmentConfig, steps: int) -> Check:
    """Whether making the environment again for every episode would help."""
    name = "env.rebuild"
    outside = (
        "the environment keeps state outside of its object (in a class, a module or a file), or uses a random "
        "generator that no seed sets; fix this in its code"
    )
    if config.rebuild == "always":
        return note(name, f'"always" does not fix it: {outside}')
    always = dataclasses.replace(config, rebuild="always")
    player = WatchedEnvironment(always, steps)
    first = player.play(SEED)
    pure = all(again == first for _, again in histories(player, first.steps // 3))
    pure = pure and hash_of_episode(always, steps) == first
    cost = 1000.0 * median(player.watch.reset_seconds)
    player.close()
    if pure:
        return note(
            name,
            f'set env.rebuild = "always": with this setting the same checks pass, at {cost:.3g} ms per episode. It '
            "is better to let reset() set everything that step() changes",
        )
    return note(name, f'"always" would not fix it: {outside}')


def _finite(watch: Watch) -> Check:
    return told(
        not watch.not_finite,
        "finite numbers",
        f"{watch.not_finite}; such a member has no fitness and ranks last. If the physics diverges, end the episode "
        "earlier (terminated), or clip the values",
        "no NaN and no infinite value",
    )


def _global_draws(watch: Watch, lockstep: bool) -> Check:
    name = "its own random generator"
    if not watch.global_draws:
        return ok(name, "does not use the global ones")
    text = (
        "draws from Python's or numpy's global random generator, which esd seeds for episodes that run one after "
        'another. With device = "cuda" and batch_members it is not supported: let it draw from self.np_random'
    )
    return failed(name, text) if lockstep else note(name, text)


def _side_by_side(
    config: EnvironmentConfig, steps: int, first: EpisodeHash, lockstep: bool
) -> Check:
    """Two episodes interleaved, as in lock-step."""
    name = "two at the same time"
    one, other = WatchedEnvironment(config, steps), WatchedEnvironment(config, steps)
    running, beside = one.steps(SEED), other.steps(OTHER_SEED)
    next(beside, None)  # the other one was begun last, and is stepped in between
    for _ in running:
        next(beside, None)
    same = one.watch.episode_hash() == first
    one.close()
    other.close()
    if same:
        return ok(name, "two objects that run together do not affect each other")
    text = (
        "an episode changes while a second environment object runs at the same time: the objects share state or a "
        'global random generator. Only batch_members and device = "cuda" run episodes at the same time'
    )
    return failed(name, text) if lockstep else note(name, text)


def _compiled(config: EnvironmentConfig, steps: int) -> Iterator[Check]:
    """Whether compiled episodes are those of the environment's own step, where it offers any."""
    name = "compiled episodes"
    # statistics of nothing seen change no observation, but the sums of all that were are kept
    env = dataclasses.replace(
        config, max_steps=min(config.max_steps or steps, steps), normalize_observations=True
    )
    network = PolicyConfig("hebbian", HebbianSettings(hidden=(8,)))
    try:
        rollout = Rollout(Config(env=env, policy=network))
    except UsageError as error:  # it was made before, so this is about what it offers
        yield failed(name, str(error))
        return
    if rollout.compiled:
        size = rollout.observation_size
        rollout.use_statistics(ObservationStatistics.empty(size))
        rollout.load([(0, rollout.policy.initial_parameters(SEED))])
        compiled, stepped = (_all_seen(rollout, stepwise) for stepwise in (False, True))
        yield told(
            compiled == stepped,
            name,
            "the compiled functions and the environment's own step gave other observations, rewards or episode "
            f"ends (returns and steps {compiled[0]}, and {stepped[0]}). Fix one of them, or remove "
            "env.unwrapped.compiled",
            "give the same as the environment's own step",
        )
    rollout.close()


def _all_seen(rollout: Rollout, stepwise: bool) -> tuple[str, bytes]:
    """Returns and steps of an episode on each of three seeds, and the bits of their observations' sums."""
    seeds = [EpisodeSeeds(seed, seed) for seed in (SEED, OTHER_SEED, THIRD_SEED)]
    outcomes, observed = [], b""
    for seed in seeds:
        outcome = rollout.play([seed], stepwise=stepwise)
        outcomes.append(f"{outcome.returns[0]!r} {outcome.steps}")
        sums = rollout.observed(outcome)
        assert sums is not None
        observed += sums.tobytes()
    return ", ".join(outcomes), observed


def _speed(player: WatchedEnvironment) -> Check:
    watch = player.watch
    rate = watch.steps / watch.step_seconds
    reset = 1000.0 * median(watch.reset_seconds)
    return Check(
        "speed",
        Verdict.OK,
        f"{rate:,.0f} steps/s, {reset:.3g} ms per reset: the environment alone, on one core",
        {"steps_per_second": rate, "reset_milliseconds": reset},
    )
