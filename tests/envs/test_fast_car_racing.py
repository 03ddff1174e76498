"""esd/FastCarRacing-v3 is CarRacing-v3: the same numbers, and a picture that is as good as the same."""

from __future__ import annotations

import gc
import math
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

from benchmarks.car_racing import (
    FAST,
    Likeness,
    controls,
    drive_by_sight,
    follow_track,
    likeness,
    pictures,
    show_off,
)
from esd.episodes.making import keeps_box2d_world
from esd_envs.fast_car_racing import FastCarRacing

BLANK = np.zeros((96, 96, 3), np.uint8)
Driver = Callable[[Any, int], Any]


class Blind(CarRacing):
    """The original, undrawn: its numbers don't depend on its picture."""

    def _render(self, mode: str) -> np.ndarray:
        return BLANK


def carefully(env: Any, step: int) -> Any:
    """Stay on the road."""
    return follow_track(env)


def by_buttons(env: Any, step: int) -> int:
    """Drive with the five actions."""
    steer, gas, _ = follow_track(env)
    if step % 50 == 0:
        return 4
    return 1 if steer > 0.1 else 2 if steer < -0.1 else 3 if gas and step % 3 else 0


def wildly(env: Any, step: int) -> Any:
    """Full gas, full brakes and all directions, in turns: skids on the grass."""
    return controls((-1.0, 0.3, 1.0)[step // 20 % 3], float(step % 90 < 60), float(step % 90 > 70))


def outward(env: Any, step: int) -> Any:
    """Away from the middle, to the end of the world."""
    x, y = env.car.hull.position
    angle = math.atan2(y, x) - env.car.hull.angle - math.pi / 2
    return controls(-2.0 * ((angle + math.pi) % (2 * math.pi) - math.pi), 0.15, 0.0)


def outcome(env: CarRacing, step: tuple[Any, ...]) -> tuple[Any, ...]:
    """All that a step leads to but the picture."""
    car = env.car
    assert car is not None
    bodies = [car.hull, *car.wheels]
    return (
        *step[1:],
        env.tile_visited_count,
        [(*b.position, b.angle, *b.linearVelocity, b.angularVelocity) for b in bodies],
        [(w.omega, w.phase, w.gas, w.brake, w.steer, w.joint.angle) for w in car.wheels],
        car.fuel_spent,
    )


@pytest.mark.parametrize(
    ("kwargs", "driver"),
    [
        ({}, show_off),
        ({}, wildly),
        ({}, outward),
        ({"continuous": False}, by_buttons),
        ({"domain_randomize": True}, show_off),
        ({"lap_complete_percent": 0.01}, carefully),
    ],
    ids=["spins", "skids", "off the field", "buttons", "colors", "a short lap"],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_an_episode_is_the_one_of_a_new_original_to_the_last_bit(
    kwargs: dict[str, Any], driver: Driver, seed: int
) -> None:
    ours = FastCarRacing(**kwargs)
    for earlier in (7, 8):  # which must leave no trace
        ours.reset(seed=earlier)
        for step in range(60):
            ours.step(driver(ours, step))
    original = Blind(**kwargs)
    original.reset(seed=seed)
    ours.reset(seed=seed)
    assert ours.track == original.track
    for step in range(1000):
        action = driver(original, step)
        theirs = outcome(original, original.step(action))
        assert outcome(ours, ours.step(action)) == theirs, step
        if theirs[1]:
            break
    assert original.tile_visited_count > 3
    assert ours.car.particles == original.car.particles
    for mine, other in zip(ours.road_poly, original.road_poly, strict=True):
        assert mine[0] == other[0]
        assert list(mine[1]) == list(other[1])


def test_episodes_end_for_all_of_the_originals_reasons() -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    steps = (env.step(outward(env, step)) for step in range(1000))
    off_the_field = next(step for step in steps if step[2])
    assert off_the_field[1] == -100.0
    assert off_the_field[4] == {"lap_finished": False}
    env.reset(seed=0)
    env.new_lap = True
    assert env.step(controls(0, 0, 0))[2:] == (True, False, {"lap_finished": True})
    made = gymnasium.make(FAST)
    made.reset(seed=0)
    assert [made.step(controls(0, 0, 0))[3] for _ in range(1000)] == [False] * 999 + [True]


def test_tracks_are_the_originals_float_for_float() -> None:
    ours, original = FastCarRacing(), Blind()
    for seed in range(60):
        ours.reset(seed=seed)
        original.reset(seed=seed)
        assert ours.track == original.track
        assert [corners for corners, _ in ours.road_poly] == [
            corners for corners, _ in original.road_poly
        ]


def mean(compared: list[Likeness], part: str) -> float:
    return float(np.mean([getattr(one, part) for one in compared]))


def assert_alike(compared: list[Likeness]) -> None:
    """The goals are 2 gray levels and 1 %; what is reached is a tenth of them, and kept."""
    assert mean(compared, "frame") < 0.1
    assert mean(compared, "car") < 0.8
    assert mean(compared, "strip") < 0.1
    assert mean(compared, "off") < 0.001
    assert max(one.frame for one in compared) < 0.3
    assert max(one.strip for one in compared) < 0.2
    assert max(one.off for one in compared) < 0.01


@pytest.mark.parametrize("seed", range(10))
def test_pictures_are_the_originals_within_a_fraction_of_a_gray_level(seed: int) -> None:
    early = [likeness(*both) for both in pictures(seed, 50, every=5)]
    later = [likeness(*both) for both in pictures(seed, 1000, every=11)]
    assert len(early) == 10
    assert len(later) > 70
    assert_alike(early)
    assert_alike(later)
    assert mean(later, "car") < 0.35  # at first the camera is far, and road fills the car's box


@pytest.mark.parametrize("driver", [wildly, outward], ids=["skids", "the end of the field"])
def test_pictures_are_alike_wherever_the_car_goes(driver: Driver) -> None:
    both = list(pictures(1, 1000, every=12, driver=driver))
    assert_alike([likeness(*pair) for pair in both])
    if driver is outward:
        outside = (both[-1][1][:60] == 0).all(axis=2).mean()
        assert outside > 0.2, "the end of the field was never in sight"


def test_randomized_colors_are_drawn_and_kept_if_asked() -> None:
    for seed in range(5):
        compared = list(pictures(seed, 120, every=8, domain_randomize=True))
        assert_alike([likeness(*both) for both in compared])
    env = FastCarRacing(domain_randomize=True)
    env.reset(seed=1)
    colors = env.road_color.tolist(), env.bg_color.tolist(), env.grass_color.tolist()
    env.reset(seed=2, options={"randomize": False})
    assert (env.road_color.tolist(), env.bg_color.tolist(), env.grass_color.tolist()) == colors
    env.reset(seed=2, options={"randomize": True})
    assert env.bg_color.tolist() != colors[1]


@pytest.mark.parametrize("reward", [0.0, -0.04, -7.0, -100.0, 5.2, 111.0, 348.7, 999.6, 1000.0])
def test_the_score_is_written_as_in_the_original(reward: float) -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    env.reward = reward
    picture = env.step(None)[0]
    compared = likeness(picture, env._render("state_pixels"))
    assert compared.strip < 0.1
    assert compared.off < 0.01


@pytest.mark.parametrize(
    "state",
    [
        {"omega": 260.0, "velocity": (90.0, 40.0), "turning": 6.0},
        {"omega": -90.0, "velocity": (0.0, 0.0), "turning": -7.0},
        {"omega": 33.3, "velocity": (0.0, 61.0), "turning": -0.3},
    ],
)
def test_indicators_show_what_the_originals_show(state: dict[str, Any]) -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    env.car.hull.linearVelocity = state["velocity"]
    env.car.hull.angularVelocity = state["turning"]
    for index, wheel in enumerate(env.car.wheels):
        wheel.omega = state["omega"] * (1 - 0.2 * index)
    original = env._render("state_pixels")
    assert env._renderer is not None
    picture = env._renderer.draw(env.car, env.t, env.reward, env._corners, env._colors, env._ground)
    assert likeness(picture, original).strip < 0.3
    assert np.abs(picture[84:].astype(int) - original[84:]).max() <= 24
    assert (original[84:].max(axis=2) > 100).sum() > 10


def test_an_episode_is_the_same_first_last_twice_and_elsewhere() -> None:
    def episode(env: FastCarRacing, seed: int) -> list[bytes]:
        picture, _ = env.reset(seed=seed)
        seen = [picture.tobytes()]
        for step in range(150):
            picture, reward, *_ = env.step(show_off(env, step + 60))
            seen.append(picture.tobytes() + np.float64(reward).tobytes())
        return seen

    here, elsewhere = FastCarRacing(), FastCarRacing()
    first = episode(here, 5)
    others = [episode(here, seed) for seed in (1, 8)]
    assert episode(here, 5) == first
    assert episode(here, 5) == first
    assert [episode(elsewhere, seed) for seed in (1, 8)] == others
    assert episode(elsewhere, 5) == first
    assert first != others[0]


def test_a_picture_that_was_returned_is_not_drawn_over() -> None:
    env = FastCarRacing()
    picture, _ = env.reset(seed=0)
    kept = picture.copy()
    env.step(controls(0, 1, 0))
    assert (picture == kept).all()


def test_a_car_that_is_nowhere_is_survived() -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    for _ in range(2):
        for control in (env.car.steer, env.car.gas, env.car.brake):  # no action does it
            control(math.nan)
        picture = env.step(None)[0]
    assert (picture[:84] == 0).all()
    healthy = env.reset(seed=0)[0]
    assert (healthy == FastCarRacing().reset(seed=0)[0]).all()


def test_it_rebuilds_its_world_itself_and_frees_the_last_one() -> None:
    env = gymnasium.make(FAST)
    assert not keeps_box2d_world(env)
    assert keeps_box2d_world(gymnasium.make("CarRacing-v3"))
    env.reset(seed=0)
    core = env.unwrapped
    world, tile = core.world, weakref.ref(core.road[5])
    wheel = weakref.ref(core.car.wheels[0])
    env.reset(seed=0)
    assert core.world is not world
    del world
    gc.collect()
    assert tile() is None
    assert wheel() is None


def test_videos_show_what_the_original_shows_with_skid_marks() -> None:
    ours, original = FastCarRacing(render_mode="rgb_array"), CarRacing(render_mode="rgb_array")
    original._render, drawn = (lambda mode: BLANK), original._render  # type: ignore[method-assign]
    ours.reset(seed=2)
    original.reset(seed=2)
    for step in range(120):
        action = wildly(ours, step)
        ours.step(action)
        original.step(action)
    assert len(ours.car.particles) > 3
    video = ours.render()
    assert video.shape == (400, 600, 3)
    assert (video == drawn("rgb_array")).all()
    ours.car.particles.clear()
    assert (ours.render() != video).any()


def test_it_can_be_driven_by_sight() -> None:
    env = gymnasium.make(FAST)
    picture, _ = env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        picture, reward, terminated, truncated, _ = env.step(drive_by_sight(picture))
        total += float(reward)
        over = terminated or truncated
    assert total > 400


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kwargs", [{}, {"continuous": False}, {"domain_randomize": True}])
def test_gymnasiums_checker_is_content(kwargs: dict[str, Any]) -> None:
    env = gymnasium.make(FAST, disable_env_checker=True, **kwargs)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    assert (env.spec.max_episode_steps, env.spec.reward_threshold) == (1000, 900)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lap_complete_percent": 0.0}, "lap_complete_percent = 0.0"),
        ({"lap_complete_percent": 95}, "lap_complete_percent = 95"),
        ({"lap_complete_percent": "a"}, "lap_complete_percent = 'a'"),
        ({"continuous": "no"}, "continuous = 'no': expected true or false"),
        ({"render_mode": "rgb"}, "render_mode = 'rgb'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastCarRacing(**kwargs)


def test_actions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        FastCarRacing().step(controls(0, 0, 0))
    with_nan = [np.where(np.arange(3) == i, np.nan, 0.0) for i in range(3)]
    for continuous, actions in ((True, (3, [0.1, 0.2], "left", *with_nan)), (False, (5, -1, 0.5))):
        env = FastCarRacing(continuous=continuous)
        env.reset(seed=0)
        for action in actions:
            with pytest.raises(gymnasium.error.InvalidAction, match="expected"):
                env.step(action)


def test_it_runs_without_a_place_for_compiled_kernels_and_with_a_damaged_one(
    tmp_path: Path,
) -> None:
    envs = Path(__file__).parents[2] / "envs"
    for name in ("esd_envs", "esd_kernels"):
        shutil.copytree(envs / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import numpy as np, esd_envs.kernels as kernels\n"
        "f = kernels.kernel(lambda x: x + 1)\n"
        "from esd_envs.kernels import car_track\n"
        "print(len(car_track.pave(np.zeros((5, 4)))[0]))"
    )

    def run(**variables: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **variables}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "file").touch()
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "file" / "folder")) == "5\n"
    cache = tmp_path / "cache"
    assert run(NUMBA_CACHE_DIR=str(cache)) == "5\n"
    damaged = [*cache.rglob("*.kernel")]
    assert damaged
    for path in damaged:
        path.write_bytes(b"nonsense")
    assert run(NUMBA_CACHE_DIR=str(cache)) == "5\n"
    assert all(path.read_bytes() != b"nonsense" for path in cache.rglob("*.kernel"))
