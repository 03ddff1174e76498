"""Gymnasium's environments played compiled: whole trainings beside a bare loop of random actions, and their limit.

For every environment, in turns, on one rank:

- “bare loop”: the environment's own ``step`` with random actions, in Python.
- “esd train”: a whole training, from its metrics, behind the first generation; the Hebbian network of the preset
  ``cartpole`` for classic control, and of ``halfcheetah`` for MuJoCo.
- “EnvPool”: its own environment of that name, 64 at once on one thread, with random actions; without a policy. Only if
  it is installed.
- “limit”: what nobody can leave out: physics of one member's episode (``mj_step`` alone), the network's steps and the
  reset. Only for MuJoCo.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from benchmarks.jobs import actions_of_members, trained
from benchmarks.measuring import Table, in_turns, on_one_core, parser, write
from benchmarks.noise import installed
from esd.config.experiment_files import read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse
from esd.doctor.bench import bare_rate
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout

CLASSIC = (
    "CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "FrozenLake-v1",
)  # fmt: skip
MUJOCO = (
    "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Swimmer-v5", "Ant-v5", "esd/DamagedAnt-v0", "Humanoid-v5",
    "HumanoidStandup-v5", "Reacher-v5", "Pusher-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5",
)  # fmt: skip
POOL = 64  # environments of EnvPool's, as many as a generation has members
QUICK = ("CartPole-v1", "InvertedPendulum-v5")


def preset_of(name: str) -> str:
    """Whose network plays."""
    return "halfcheetah" if name in MUJOCO else "cartpole"


def settings_of(name: str, population: int) -> tuple[str, ...]:
    """What differs from the preset: another environment, and nothing but members' episodes."""
    return (
        f"env.id={name}",
        "env.episodes_per_member=1",
        f"population={population}",
        "generations=4",
        "run.center_every=0",
        "run.checkpoint_every=1000",
    )


def config_of(name: str) -> Config:
    """The same as a config."""
    preset = preset_of(name)
    return parse(apply_settings(read_experiment(preset)[1], settings_of(name, 2)), preset)


def limit_of(name: str, actions: list[Any]) -> Callable[[], float]:
    """Measures steps per second of physics, network and reset alone, with the actions of one member's episode."""
    config = config_of(name)
    env: Any = make_environment(config.env)
    rollout = Rollout(config)
    rollout.load([(0, rollout.policy.initial_parameters(0))])
    (seeds,) = rollout.member_seeds(0, 0)
    observation = np.zeros(rollout.interface.observation_size, np.float32)
    model, data, frames = env.unwrapped.model, env.unwrapped.data, env.unwrapped.frame_skip

    def measured() -> float:
        began = time.perf_counter()
        env.reset(seed=seeds.environment)
        for action in actions:
            data.ctrl[:] = action
            mujoco.mj_step(model, data, nstep=frames)
        rollout.policy.reset(seeds.policy)
        for _ in actions:
            rollout.policy.act(observation)
        return len(actions) / (time.perf_counter() - began)

    return measured


def envpool_of(name: str, seconds: float) -> Callable[[], float] | None:
    """Measures EnvPool's steps per second; None if it isn't installed or has no such environment."""
    if not installed("envpool"):
        return None
    import envpool
    from envpool.registration import list_all_envs

    if name not in list_all_envs():
        return None
    env = envpool.make_gymnasium(name, num_envs=POOL, num_threads=1, seed=0)
    env.action_space.seed(0)
    actions = [np.stack([env.action_space.sample() for _ in range(POOL)]) for _ in range(50)]
    env.reset()

    def measured() -> float:
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for action in actions:
                env.step(action)
            steps += POOL * len(actions)
        return steps / (time.perf_counter() - began)

    return measured


def table(name: str, rounds: int, seconds: float) -> Table:
    """One environment."""
    config = config_of(name)
    env = make_environment(config.env)
    env.action_space.seed(0)
    random = [env.action_space.sample() for _ in range(1000)]
    own = actions_of_members(config, 1)
    episodes = seconds * bare_rate(env, random, 0.3) / len(own)  # in the time of one measurement
    words = settings_of(name, max(2, int(episodes / 4) * 2))
    contenders: dict[str, Callable[[], float]] = {
        "bare loop": lambda: bare_rate(env, random, seconds),
        "esd train, 1 rank": lambda: trained(preset_of(name), words),
    }
    pool = envpool_of(name, seconds)
    if pool is not None:
        contenders["EnvPool"] = pool
    if name in MUJOCO:
        contenders["limit"] = limit_of(name, own)
    return in_turns(name, "env-steps/s", contenders, rounds, more_is_better=True)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of them, or those asked for."""
    names = arguments.only or (QUICK if arguments.quick else CLASSIC + MUJOCO)
    rounds, seconds = (1, 0.2) if arguments.quick else (3, 0.7)
    tables = []
    for name in names:
        tables.append(table(name, rounds, seconds))
        print(f"{name} is measured", file=sys.stderr, flush=True)
    return {"tables": tables}


def main() -> None:
    """Measure and write."""
    command_line = parser("compiled_steps", __doc__)
    command_line.add_argument("--only", nargs="+", metavar="ID", help="these environments")
    arguments = command_line.parse_args()
    on_one_core()
    write(arguments, "compiled_steps", measured(arguments))


if __name__ == "__main__":
    main()
