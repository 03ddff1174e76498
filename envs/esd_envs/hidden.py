"""CartPole and Pendulum with a body, a gravity and a direction of the force that the agent is not shown.

A rule that learns while it acts can find out; a fixed policy needs one answer that does for all of them. Both
worlds are compiled (see ``esd_envs.compiled``), which makes them ten times and more as fast as Gymnasium's.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env, spaces
from gymnasium.envs.classic_control import utils
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.pendulum import DEFAULT_X, DEFAULT_Y, PendulumEnv

from esd_envs.compiled import Compiled, episode_seed
from esd_envs.kernels import classic_control as kernels
from esd_envs.keywords import number

Float32s = npt.NDArray[np.float32]


def _sign(value: Any) -> float:
    """1, −1, or 0 for one that is drawn in every episode."""
    if isinstance(value, str) and value == "random":
        return 0.0
    known = isinstance(value, numbers.Real) and not isinstance(value, bool) and value in (1, -1)
    if not known:
        raise ValueError(f"sign = {value!r}: expected 1, -1 or 'random'")
    return float(value)


class _CompiledState:
    """A world of Gymnasium's whose state is that of the compiled functions."""

    compiled: Compiled
    _shown = 0  # how many numbers Gymnasium's state has

    @property
    def state(self) -> npt.NDArray[np.float64] | None:
        """The state as Gymnasium has it, to be read and changed; None before the first reset."""
        return self.compiled.state[: self._shown] if self.compiled.begun else None

    @state.setter
    def state(self, state: npt.ArrayLike | None) -> None:
        if state is not None:  # as Gymnasium's constructor has it
            self.compiled.state[: self._shown] = state


class HiddenCartPole(_CompiledState, CartPoleEnv):
    """CartPole-v1 with hidden parameters, such as the direction of the force; their defaults are CartPole-v1's.

    Args:
        pole_length: of the whole pole, in m; Gymnasium's ``length`` is half of it.
        pole_mass: kg.
        cart_mass: kg.
        gravity: m/s².
        force: N, by which the cart is pushed.
        sign: 1 (action 1 pushes to the right, as in CartPole-v1), −1 (to the left), or "random" (drawn in every reset).
        start: the bound of all four numbers of an initial state, in m, m/s, rad, rad/s.
        render_mode: as in CartPole-v1.
    """

    _shown = 4

    def __init__(
        self,
        *,
        pole_length: float = 1.0,
        pole_mass: float = 0.1,
        cart_mass: float = 1.0,
        gravity: float = 9.8,
        force: float = 10.0,
        sign: int | str = 1,
        start: float = 0.05,
        render_mode: str | None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode=render_mode)
        self._start = number("start", start, zero=True)
        self.length = 0.5 * number("pole_length", pole_length)  # also how long it is drawn
        self.masspole, self.masscart = (
            number("pole_mass", pole_mass),
            number("cart_mass", cart_mass),
        )
        self.gravity = number("gravity", gravity, zero=True)
        self.force_mag = number("force", force)
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        parameters = [
            self.length,
            self.masspole,
            self.masscart,
            self.gravity,
            self.force_mag,
            _sign(sign),
            0.0,
            0.0,
        ]
        self.compiled = Compiled(
            kernels.reset_cart_pole,
            kernels.step_cart_pole,
            parameters,
            kernels.CART_STATE,
            4,
            self.action_space,
        )
        self._begin_within(None)

    def _begin_within(self, options: dict[str, Any] | None) -> None:
        bounds = utils.maybe_parse_reset_bounds(options, -self._start, self._start)
        self.compiled.parameters[kernels.CART_LOW : kernels.CART_HIGH + 1] = bounds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """Begin an episode: state and sign are drawn from the seed; options "low" and "high" as in CartPole-v1."""
        Env.reset(self, seed=seed)
        self._begin_within(options)
        self._has_fallen = False
        observation = self.compiled.reset(episode_seed(self, seed))
        if self.render_mode == "human":
            self.render()
        return observation, {}

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Push one way (1) or the other (0). As in CartPole-v1, steps after the one that ended the episode give 0."""
        observation, reward, terminated = self.compiled.step(action)
        if terminated:
            reward, self._has_fallen = 0.0 if self._has_fallen else reward, True
        if self.render_mode == "human":
            self.render()
        return observation, reward, terminated, False, {}


class HiddenPendulum(_CompiledState, PendulumEnv):  # type: ignore[misc]  # a property for an attribute
    """Pendulum-v1 with hidden parameters, such as gravity; their defaults are Pendulum-v1's.

    Args:
        length: m.
        mass: kg.
        gravity: m/s².
        max_torque: N·m, the bound of actions.
        sign: 1 (as in Pendulum-v1), −1 (torques turn the other way), or "random" (drawn in every reset).
        render_mode: as in Pendulum-v1.
    """

    _shown = 2

    def __init__(
        self,
        *,
        length: float = 1.0,
        mass: float = 1.0,
        gravity: float = 10.0,
        max_torque: float = 2.0,
        sign: int | str = 1,
        render_mode: str | None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode=render_mode)
        self.max_torque = number("max_torque", max_torque)
        self.l, self.m = number("length", length), number("mass", mass)
        self.g = number("gravity", gravity, zero=True)
        parameters = [
            self.l,
            self.m,
            self.g,
            self.max_torque,
            _sign(sign),
            DEFAULT_X,
            DEFAULT_Y,
        ]
        self.action_space = spaces.Box(-self.max_torque, self.max_torque, (1,), np.float32)
        self.compiled = Compiled(
            kernels.reset_pendulum,
            kernels.step_pendulum,
            parameters,
            kernels.PENDULUM_STATE,
            3,
            self.action_space,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """Begin an episode: state and sign are drawn from the seed; "x_init" and "y_init" as in Pendulum-v1."""
        Env.reset(self, seed=seed)
        given = options or {}
        self.compiled.parameters[kernels.ANGLE_BOUND : kernels.SPEED_BOUND + 1] = [
            utils.verify_number_and_cast(given.get("x_init", DEFAULT_X)),
            utils.verify_number_and_cast(given.get("y_init", DEFAULT_Y)),
        ]
        observation = self.compiled.reset(episode_seed(self, seed))
        self.last_u = None
        if self.render_mode == "human":
            self.render()
        return observation, {}

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Turn with a torque, float32 [1] in N·m."""
        observation, reward, terminated = self.compiled.step(action)
        self.last_u = float(action[0])
        if self.render_mode == "human":
            self.render()
        return observation, reward, terminated, False, {}
