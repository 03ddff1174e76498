"""esd/FastCarRacing-v3 beside Gymnasium's CarRacing-v3: how much faster, and how alike.

Speed: environment steps per second, resets included, in turns, with actions that wander at random and episodes that
end with the 21st negative reward in a row, as training has them at first, and with a driver that knows the track, for
300 steps. Likeness: both pictures of the same state, over whole episodes of a driver that knows the track and is made
to spin now and then. Score: a driver that sees nothing but the picture, in both environments, on the same tracks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import esd_envs
from benchmarks.measuring import in_turns, on_one_core, parser, seconds, write

gymnasium.register_envs(esd_envs)  # importing it has registered them

FAST, ORIGINAL = "esd/FastCarRacing-v3", "CarRacing-v3"
PATIENCE = 21  # negative rewards in a row
CAR_BOX = slice(66, 78), slice(44, 52)  # rows, columns
STRIP = slice(84, 96)
OFF = 16  # of 255: a pixel that differs by more counts as off

Action = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


def controls(steer: float, gas: float, brake: float) -> Action:
    """An action."""
    return np.array([min(max(steer, -1.0), 1.0), gas, brake], np.float32)


def follow_track(env: Any) -> Action:
    """Steer for the track's fifth point ahead; reads the environment, not the picture."""
    x, y = env.car.hull.position
    track = np.array(env.track)[:, 2:]
    ahead = track[(np.argmin(((track - (x, y)) ** 2).sum(1)) + 5) % len(track)] - (x, y)
    angle = math.atan2(ahead[1], ahead[0]) - env.car.hull.angle - math.pi / 2
    angle = (angle + math.pi) % (2 * math.pi) - math.pi
    speed = math.hypot(*env.car.hull.linearVelocity)
    brake = 0.5 if abs(angle) > 0.4 and speed > 25.0 else 0.0
    return controls(-2.0 * angle, 0.6 if speed < 45.0 else 0.0, brake)


def show_off(env: Any, step: int) -> Action:
    """Follow the track, but spin for 15 steps of every 200: grass, skids, views from all sides."""
    return controls(1.0, 1.0, 0.0) if step % 200 >= 185 else follow_track(env)


def drive_by_sight(picture: Picture) -> Action:
    """Steer for the middle of the road some way ahead; nothing but the picture is known."""
    levels = picture[: STRIP.start].astype(np.int64)
    road = (np.ptp(levels, axis=2) < 12) & (levels[:, :, 0] > 80)
    aims = []
    for row in (42, 48, 54, 60):
        columns = np.flatnonzero(road[row])
        if len(columns):
            nearest = columns[np.argmin(np.abs(columns - 47.5))]
            aims.append(columns[np.abs(columns - nearest) < 20].mean() - 47.5)
    aim = float(np.mean(aims)) if aims else 0.0
    speed = picture[STRIP, 12:14, 0].sum() / 255 / 2 / 0.048  # the white bar
    brake = 0.3 if abs(aim) > 8.0 and speed > 35.0 else 0.0
    return controls(0.06 * aim, 0.4 if speed < 45.0 else 0.0, brake)


@dataclass(frozen=True)
class Likeness:
    """How far one picture is from another, in gray levels of 255.

    Attributes:
        frame: mean absolute difference over all pixels and channels.
        car: over the car's box.
        strip: over the indicators.
        off: share of the pixels of which a channel differs by more than OFF.
    """

    frame: float
    car: float
    strip: float
    off: float


def likeness(ours: Picture, original: Picture) -> Likeness:
    """Compare two pictures, uint8 [96, 96, 3]."""
    difference = np.abs(ours.astype(np.int64) - original)
    return Likeness(
        float(difference.mean()),
        float(difference[CAR_BOX].mean()),
        float(difference[STRIP].mean()),
        float((difference.max(axis=2) > OFF).mean()),
    )


def pictures(
    seed: int,
    steps: int,
    every: int = 1,
    driver: Callable[[Any, int], Action] = show_off,
    **kwargs: Any,
) -> Iterator[tuple[Picture, Picture]]:
    """Our picture and the original's, of the same states of an episode."""
    env = gymnasium.make(FAST, **kwargs).unwrapped
    picture, _ = env.reset(seed=seed)
    for step in range(steps):
        if step % every == 0:
            shown = env.reward  # type: ignore[attr-defined]
            env.reward += 0.1 if step else 0.0  # type: ignore[attr-defined]  # taken off after drawing
            yield picture, env._render("state_pixels")  # type: ignore[attr-defined]
            env.reward = shown  # type: ignore[attr-defined]
        picture, _, terminated, _, _ = env.step(driver(env, step))
        if terminated:
            break


def wander(seed: int) -> list[Action]:
    """Actions that drift at random; most of them leave the car where it is, or on the grass."""
    generator = np.random.default_rng(seed)
    drift, actions = np.zeros(3), []
    for _ in range(1000):
        drift = 0.9 * drift + 0.1 * generator.uniform((-3, -1, -1), (3, 3, 0.5))
        actions.append(np.clip(drift, (-1, 0, 0), (1, 1, 1)).astype(np.float32))
    return actions


def drive(seed: int) -> list[Action]:
    """What ``follow_track`` does on a track, for 300 steps."""
    env = gymnasium.make(FAST)
    env.reset(seed=seed)
    actions = []
    for _ in range(300):
        actions.append(follow_track(env.unwrapped))
        env.step(actions[-1])
    return actions


class Contender:
    """An environment, and episodes of given actions, each on a track of its own."""

    def __init__(self, env_id: str, actions: list[list[Action]]) -> None:
        self._env = gymnasium.make(env_id)
        self._actions = actions
        self.lengths: list[int] = []

    def rate(self) -> float:
        """Environment steps per second over all episodes."""
        elapsed = seconds(self._episodes)
        return sum(self.lengths[-len(self._actions) :]) / elapsed

    def _episodes(self) -> None:
        step = self._env.step
        for seed, actions in enumerate(self._actions):
            self._env.reset(seed=seed)
            count = negative = 0
            for action in actions:
                _, reward, terminated, truncated, _ = step(action)
                count += 1
                negative = negative + 1 if float(reward) < 0.0 else 0
                if terminated or truncated or negative >= PATIENCE:
                    break
            self.lengths.append(count)


def score(env_id: str, seed: int) -> float:
    """The return of the driver by sight."""
    env = gymnasium.make(env_id)
    picture, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        picture, reward, terminated, truncated, _ = env.step(drive_by_sight(picture))
        total += float(reward)
        over = terminated or truncated
    return total


def main() -> None:
    """Measure and write."""
    command_line = parser("car_racing", __doc__)
    command_line.add_argument("--rounds", type=int, default=7, help="[%(default)s]")
    command_line.add_argument("--tracks", type=int, default=10, help="compared [%(default)s]")
    command_line.add_argument("--races", type=int, default=20, help="for the score [%(default)s]")
    arguments = command_line.parse_args()
    episodes, length = {wander: 12, drive: 3}, 1000
    if arguments.quick:
        arguments.rounds, arguments.tracks, arguments.races = 1, 1, 1
        episodes, length = {wander: 1, drive: 1}, 60
    on_one_core()
    tables, lengths = [], {}
    for plan, name in (
        (wander, f"CarRacing-v3, wandering, stopped by {PATIENCE} negative rewards"),
        (drive, "CarRacing-v3, following the track for 300 steps"),
    ):
        actions = [plan(seed) for seed in range(episodes[plan])]
        found = {env_id: Contender(env_id, actions) for env_id in (FAST, ORIGINAL)}
        rates = {env_id: contender.rate for env_id, contender in found.items()}
        tables.append(in_turns(name, "env-steps/s", rates, arguments.rounds, more_is_better=True))
        lengths[name] = float(np.mean(found[FAST].lengths))
    compared = []
    for seed in range(arguments.tracks):
        of_track = [likeness(*both) for both in pictures(seed, length)]
        compared.append(
            {
                "seed": seed,
                "frames": len(of_track),
                **{
                    part: float(np.mean([getattr(one, part) for one in of_track]))
                    for part in ("frame", "car", "strip", "off")
                },
                "worst_frame": max(one.frame for one in of_track),
                "worst_off": max(one.off for one in of_track),
            }
        )
    scores = {
        env_id: [score(env_id, seed) for seed in range(arguments.races)]
        for env_id in (FAST, ORIGINAL)
    }
    content = {
        "tables": tables,
        "steps_per_episode": lengths,
        "likeness": compared,
        "score": {
            env_id: {
                "mean": float(np.mean(found_scores)),
                "standard_error": float(np.std(found_scores) / math.sqrt(len(found_scores))),
                "scores": found_scores,
            }
            for env_id, found_scores in scores.items()
        },
    }
    write(arguments, "car_racing", content)


if __name__ == "__main__":
    main()
