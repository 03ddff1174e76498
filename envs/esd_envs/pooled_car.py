"""A wrapper of CarRacing that shows a coarse grid and the gauges in place of a picture."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from esd_envs.kernels import car_picture, car_pooling
from esd_envs.keywords import whole

Float32s = npt.NDArray[np.float32]
PICTURE = (car_picture.SIZE, car_picture.SIZE, 3)


class PooledCar(
    gymnasium.ObservationWrapper[Float32s, Any, npt.NDArray[np.uint8]], RecordConstructorArgs
):
    """CarRacing-v3 or FastCarRacing-v3, seen as a few numbers that are computed from the picture alone.

    An observation is float32 [rows · columns + 4]: the share of grass in each cell of a grid over the upper 84 of 96
    rows, row by row, 0 to 1; the speed, in 100 m/s; the angle of the front wheels, in 0.4 rad, and the angular
    velocity, in 5 rad/s, both positive to the left; and a one, since policies have no biases.

    Args:
        env: with pictures of 96×96 pixels, uint8, in the colors of CarRacing-v3.
        rows: of the grid.
        columns: of the grid.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, rows: int = 12, columns: int = 12) -> None:
        """Wrap it.

        Raises:
            ValueError: naming the keyword whose value makes no grid, or if there is no such picture.
        """
        RecordConstructorArgs.__init__(self, rows=rows, columns=columns)
        gymnasium.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or space.shape != PICTURE or space.dtype != np.uint8:
            raise ValueError(
                f"observations are {space}; expected pictures of CarRacing-v3, uint8 {list(PICTURE)}"
            )
        self._rows = whole("rows", rows, 1, most=car_picture.STRIP)
        self._columns = whole("columns", columns, 1, most=car_picture.SIZE)
        size = self._rows * self._columns
        least, most = np.zeros(size + 4, np.float32), np.ones(size + 4, np.float32)
        most[size] = 5.0  # as many pixels as the gauges have: no car comes near
        least[size + 1 : size + 3], most[size + 1 : size + 3] = -4.0, 4.0
        least[-1] = 1.0
        self.observation_space = spaces.Box(least, most, dtype=np.float32)

    def observation(self, observation: npt.NDArray[np.uint8]) -> Float32s:
        """The numbers of a picture, float32 [rows · columns + 4]."""
        pooled = np.empty(self._rows * self._columns + car_pooling.GAUGES + 1, np.float32)
        car_pooling.pool(observation, self._rows, self._columns, pooled)
        return pooled
