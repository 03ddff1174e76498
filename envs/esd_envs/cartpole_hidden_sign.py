"""CartPole whose force may push the other way: which way is drawn in every episode and never shown.

No fixed reactive policy can hold both poles up; one that learns while it acts can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class CartPoleHiddenSign(CartPoleEnv):
    """CartPole-v1's physics, observations and rewards with a hidden direction of the force.

    Args:
        sign: "random" (drawn at every reset), 1 (as in CartPole-v1) or −1 (reversed).
        kwargs: of Gymnasium's ``CartPoleEnv``.
    """

    def __init__(self, sign: str | int = "random", **kwargs: Any) -> None:
        """Build it.

        Raises:
            ValueError: if the sign is none of the three.
        """
        if sign not in ("random", 1, -1):
            raise ValueError(f"sign = {sign!r}: expected 'random', 1 or -1")
        super().__init__(**kwargs)
        self._sign = sign
        self._force_unit = abs(self.force_mag)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode, drawing the sign after CartPole's own state."""
        observation, info = super().reset(seed=seed, options=options)
        sign = self.np_random.choice([-1, 1]) if self._sign == "random" else self._sign
        self.force_mag = self._force_unit * int(sign)
        return observation, info
