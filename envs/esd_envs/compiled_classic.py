"""Gymnasium's classic control and tables as compiled steps: which function each has, and what it works on."""

from __future__ import annotations

from ctypes import c_void_p, cast
from typing import Any

import numpy as np
import numpy.typing as npt

from esd_envs.compiled_steps import NotCompiledError

Float64s = npt.NDArray[np.float64]


def cart_pole(env: Any) -> list[float]:
    """Of CartPole-v1."""
    sutton = env._sutton_barto_reward
    return [
        env.force_mag,
        env.polemass_length,
        env.total_mass,
        env.gravity,
        env.length,
        env.masspole,
        env.tau,
        env.x_threshold,
        env.theta_threshold_radians,
        env.kinematics_integrator != "euler",
        0.0 if sutton else 1.0,
        -1.0 if sutton else 1.0,
    ]


def pendulum(env: Any) -> list[float]:
    """Of Pendulum-v1."""
    pull = 3 * env.g / (2 * env.l)
    turn = 3.0 / (env.m * env.l**2)
    return [pull, turn, env.dt, env.max_torque, env.max_speed, 2.0]


def mountain_car(env: Any) -> list[float]:
    """Of MountainCar-v0."""
    return [*_car(env), env.force, env.gravity]


def mountain_car_continuous(env: Any) -> list[float]:
    """Of MountainCarContinuous-v0."""
    return [*_car(env), env.power, 0.0025]


def _car(env: Any) -> list[float]:
    bounds = [env.min_position, env.max_position, env.max_speed]
    return [*bounds, env.goal_position, env.goal_velocity]


def acrobot(env: Any) -> list[float]:
    """Of Acrobot-v1."""
    return [
        env.LINK_MASS_1,
        env.LINK_MASS_2,
        env.LINK_LENGTH_1,
        env.LINK_COM_POS_1,
        env.LINK_COM_POS_2,
        env.LINK_MOI,
        env.MAX_VEL_1,
        env.MAX_VEL_2,
        env.dt,
        *env.AVAIL_TORQUE,
        env.book_or_nips == "nips",
        2.0,
    ]


def table(env: Any) -> list[float]:
    """The transitions of a discrete environment.

    Raises:
        NotCompiledError: if a passenger of Taxi's may change where they want to go.
    """
    if getattr(env, "fickle_passenger", False):
        raise NotCompiledError("fickle_passenger draws in the middle of an episode")
    states, actions = len(env.P), len(env.P[0])
    outcomes = max(len(env.P[s][a]) for s in env.P for a in env.P[s])
    tables = np.zeros((4, states, actions, outcomes))
    tables[0] = -1.0  # what is no outcome is never above a draw
    for s in range(states):
        for a in range(actions):
            found = env.P[s][a]
            tables[0, s, a, : len(found)] = np.cumsum([outcome[0] for outcome in found])
            tables[1:, s, a, : len(found)] = np.array([o[1:] for o in found], np.float64).T
    return [actions, outcomes, states, *tables.ravel()]


def state(env: Any, parameters: Float64s, state: Float64s) -> None:
    """Write what a step of classic control begins with."""
    values = env.state
    state[: len(values)] = values
    state[len(values) :] = 1.0  # a mountain car's are still float64


def place(env: Any, parameters: Float64s, state: Float64s) -> None:
    """Write where in a table an episode begins, and what it draws from."""
    interface = env.np_random.bit_generator.ctypes
    function = cast(interface.next_double, c_void_p).value
    state.view(np.int64)[:] = [int(env.s), function, interface.state_address]
