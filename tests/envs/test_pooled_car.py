"""The wrapper that shows CarRacing as a coarse grid and its gauges."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import esd_envs
from esd_envs import PooledCar

gymnasium.register_envs(esd_envs)
FAST = "esd/FastCarRacing-v3"


def expected_shares(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Shares of grass, the plain way."""
    levels = picture[:84].astype(np.int64)
    grass = np.clip(levels[:, :, 1] - levels[:, :, 0], 0, 102) / 102
    across = np.linspace(0, 84, rows + 1).astype(int), np.linspace(0, 96, columns + 1).astype(int)
    return np.array(
        [
            [grass[top:bottom, left:right].mean() for left, right in zip(across[1][:-1], across[1][1:], strict=True)]
            for top, bottom in zip(across[0][:-1], across[0][1:], strict=True)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("id", [FAST, "CarRacing-v3"])
def test_it_shows_what_the_picture_and_the_physics_say(id: str) -> None:
    env = gymnasium.make(id, max_episode_steps=1000)
    pooled = PooledCar(env, rows=12, columns=8)
    inner = env.unwrapped
    observation, _ = pooled.reset(seed=4)
    seen: list[Any] = []
    for step in range(150 if id == FAST else 40):
        steer = [-1.0, 1.0, 0.0][step // 12 % 3]
        observation, *_ = pooled.step(np.array([steer, 0.9, 0.0], np.float32))
        assert pooled.observation_space.contains(observation)
        shares = expected_shares(inner.state, 12, 8)
        np.testing.assert_allclose(observation[:96], shares.ravel(), atol=1e-6)
        speed = np.hypot(*inner.car.hull.linearVelocity) / 100
        angle = inner.car.wheels[0].joint.angle / 0.4
        turning = inner.car.hull.angularVelocity / 5
        seen.append((observation[96:99], (speed, angle, turning)))
        assert observation[99] == 1.0
    shown, true = (np.array([pair[i] for pair in seen]) for i in (0, 1))
    off = np.abs(shown - true)
    # bars begin and end at whole pixels of the large picture, with an outline; there is no room for more than 7 rad/s
    assert off[:, 0].max() < 0.07
    assert off[:, 1].max() < 0.03
    assert off[np.abs(true[:, 2]) < 1.4, 2].max() < 0.05
    assert (np.abs(true).max(axis=0) > [0.2, 0.8, 0.05]).all()
    assert np.ptp(shown[:, 1]) > 1.5
    env.close()


def test_grass_is_one_and_road_is_zero() -> None:
    env = PooledCar(gymnasium.make(FAST), rows=84, columns=96)
    env.reset(seed=0)
    for _ in range(60):  # the camera comes closer
        observation, *_ = env.step(np.zeros(3, np.float32))
    grid = observation[: 84 * 96].reshape(84, 96)
    assert np.isin(np.round(grid, 1), [0.0, 1.0]).mean() > 0.9
    assert grid[60:80, 44:52].max() == 0.0  # the car and the road that it stands on
    assert grid[:, 0].mean() > 0.9
    env.close()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rows": 0}, "rows = 0: expected a whole number from 1 to 84"),
        ({"columns": 97}, "columns = 97: expected a whole number from 1 to 96"),
    ],
)
def test_what_makes_no_grid_is_a_clear_error(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PooledCar(gymnasium.make(FAST), **kwargs)


def test_it_needs_the_pictures_of_car_racing() -> None:
    with pytest.raises(ValueError, match=r"expected pictures of CarRacing-v3, uint8 \[96, 96, 3\]"):
        PooledCar(gymnasium.make("CartPole-v1"))
