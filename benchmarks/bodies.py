"""What the damaged ants do without a brain, and how fast MuJoCo's bodies can be played, resets included.

A learner has shown something only beyond what doing nothing and doing anything give. Episodes have seeds 0, 1, 2, …,
which also seed the random actions (uniform over the action space).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np

import esd_envs
from benchmarks.measuring import in_turns, on_one_core, parser, seconds, write
from esd_envs.changed_body import ChangedBody
from esd_envs.damaged_ant import ANKLES

gymnasium.register_envs(esd_envs)
ANT = "esd/DamagedAnt-v0"
Env = gymnasium.Env[Any, Any]

BODIES = [("none", 1.0), *((leg, fraction) for leg in ANKLES for fraction in (0.25, 0.0))]


def episode(env: Env, seed: int, random: bool) -> dict[str, float]:
    """Play one and tell its return, length [steps], way [m] and speed [m/s]."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    action = np.zeros(env.action_space.shape or (), np.float32)
    total, steps, over = 0.0, 0, False
    info: dict[str, Any] = {}
    while not over:
        if random:
            action = env.action_space.sample()
        _, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        steps += 1
        over = terminated or truncated
    return {"return": total, "steps": steps, "meters": info["distance"], "speed": info["speed"]}


def played(episodes: int, max_steps: int) -> Iterator[dict[str, Any]]:
    """Every body with zero and with random actions, and with the latter also beyond its being unhealthy."""
    for leg, fraction in BODIES:
        for actions, terminates in (("zero", True), ("random", True), ("random", False)):
            kwargs: dict[str, Any] = {
                "leg": leg,
                "fraction": fraction,
                "terminate_when_unhealthy": terminates,
            }
            env = gymnasium.make(ANT, max_episode_steps=max_steps, **kwargs)
            told = [episode(env, seed, actions == "random") for seed in range(episodes)]
            env.close()
            figures = {
                name: [float(np.mean(values)), float(np.std(values, ddof=1))]
                for name in told[0]
                for values in [[one[name] for one in told]]
            }
            yield {
                "leg": leg,
                "fraction": fraction,
                "actions": actions,
                "terminates": terminates,
                "episodes": episodes,
                "ended_early": sum(one["steps"] < max_steps for one in told),
                **figures,
            }


def euler(env: Env) -> Env:
    """The same body integrated by Euler's method, which asks for its forces once a frame; RK4 asks four times."""
    env.unwrapped.model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER  # type: ignore[attr-defined]
    return env


def rated(steps: int) -> dict[str, Callable[[], float]]:
    """Environments, and what measures one: random actions, steps per second."""
    environments = {
        "esd/DamagedAnt-v0": gymnasium.make(ANT, leg="front_left"),
        "esd/DamagedAnt-v0, never ended early": gymnasium.make(
            ANT, leg="front_left", terminate_when_unhealthy=False
        ),
        "esd/DamagedAnt-v0, Euler instead of RK4": euler(gymnasium.make(ANT, leg="front_left")),
        "HalfCheetah-v5": gymnasium.make("HalfCheetah-v5"),
        "HalfCheetah-v5, bshin at 0.5": ChangedBody(
            gymnasium.make("HalfCheetah-v5"), scale={"bshin": 0.5}
        ),
        "Walker2d-v5, leg at 0.7": ChangedBody(gymnasium.make("Walker2d-v5"), scale={"leg": 0.7}),
        "Hopper-v5, leg at 0.7": ChangedBody(gymnasium.make("Hopper-v5"), scale={"leg": 0.7}),
    }
    return {name: rate_of(env, steps) for name, env in environments.items()}


def rate_of(env: Env, steps: int) -> Callable[[], float]:
    """What measures an environment: random actions drawn before, steps per second, resets included."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]

    def play() -> None:
        env.reset(seed=0)
        step = env.step
        for action in actions:
            _, _, terminated, truncated, _ = step(action)
            if terminated or truncated:
                env.reset()

    return lambda: steps / seconds(play)


def main() -> None:
    """Play, measure and write."""
    command_line = parser("bodies", __doc__)
    command_line.add_argument("--episodes", type=int, default=20, help="per body [%(default)s]")
    command_line.add_argument("--rounds", type=int, default=9, help="[%(default)s]")
    arguments = command_line.parse_args()
    max_steps, steps = 1000, 3000
    if arguments.quick:
        arguments.episodes, arguments.rounds, max_steps, steps = 2, 1, 20, 50
    on_one_core()
    table = in_turns("steps", "steps/s", rated(steps), arguments.rounds, more_is_better=True)
    write(
        arguments, "bodies", {"tables": [table], "bodies": [*played(arguments.episodes, max_steps)]}
    )


if __name__ == "__main__":
    main()
