"""Gymnasium's MuJoCo environments as compiled steps: which function each has, and what it works on."""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from esd_envs.compiled_steps import NotCompiledError
from esd_envs.kernels import mujoco as kernels

Float64s = npt.NDArray[np.float64]


@functools.cache
def _library() -> ctypes.CDLL:
    """The library that Python's mujoco has loaded."""
    (path,) = Path(mujoco.__file__).parent.glob("libmujoco.so*")
    return ctypes.CDLL(str(path))


def _address(name: str) -> int:
    return int(ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value or 0)


def _parameters(env: Any, *own: float) -> Float64s:
    """What the compiled step of an environment works on: addresses of MuJoCo's arrays, sizes and settings.

    Args:
        env: a ``MujocoEnv``, which has to outlive what is returned.
        own: what only this environment has.
    """
    model, data = env.model, env.data
    parameters = np.zeros(kernels.OWN + len(own))
    parameters[: kernels.ADDRESSES].view(np.int64)[:] = [
        _address("mj_step"),
        _address("mj_rnePostConstraint"),
        model._address,
        data._address,
        *(
            array.ctypes.data
            for array in (
                data.qpos,
                data.qvel,
                data.ctrl,
                data.cfrc_ext,
                data.cinert,
                data.cvel,
                data.qfrc_actuator,
                data.qfrc_constraint,
                model.body_mass,
                data.xipos,
                data.xpos,
                data.site_xpos,
            )
        ),
    ]
    parameters[kernels.ADDRESSES : kernels.OWN] = [
        model.nq,
        model.nv,
        model.nu,
        model.nbody,
        env.frame_skip,
        env.dt,
    ]
    parameters[kernels.OWN :] = own
    return parameters


@functools.cache
def _fused() -> bool:
    """Whether the product that ``np.linalg.norm`` takes of BLAS rounds once for a multiplication and an addition."""
    norm = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * 3, ctypes.c_int64)(
        kernels.norm.address
    )
    vectors = np.random.default_rng(0).standard_normal((64, 3))
    return all(norm(*vector, 1) == np.linalg.norm(vector) for vector in vectors)


def _skipped(env: Any, positions: int) -> int:
    return positions if env._exclude_current_positions_from_observation else 0


def half_cheetah(env: Any) -> Float64s:
    """Of HalfCheetah-v5."""
    return _parameters(env, env._ctrl_cost_weight, _skipped(env, 1), env._forward_reward_weight)


def swimmer(env: Any) -> Float64s:
    """Of Swimmer-v5."""
    return _parameters(env, env._ctrl_cost_weight, _skipped(env, 2), env._forward_reward_weight)


def hopper(env: Any) -> Float64s:
    """Of Hopper-v5, and Walker2d-v5, whose states have no bounds."""
    return _parameters(
        env,
        env._ctrl_cost_weight,
        _skipped(env, 1),
        env._forward_reward_weight,
        env._healthy_reward,
        env._terminate_when_unhealthy,
        *getattr(env, "_healthy_state_range", (-math.inf, math.inf)),
        *env._healthy_z_range,
        *env._healthy_angle_range,
        10.0,
    )


def ant(env: Any, damaged: bool = False) -> Float64s:
    """Of Ant-v5."""
    return _parameters(
        env,
        env._ctrl_cost_weight,
        _skipped(env, 2),
        env._forward_reward_weight,
        env._healthy_reward,
        env._terminate_when_unhealthy,
        *env._healthy_z_range,
        env._contact_cost_weight,
        *env._contact_force_range,
        env.model.body(env._main_body).id,
        env._include_cfrc_ext_in_observation,
        damaged,
    )


def damaged_ant(env: Any) -> Float64s:
    """Of ``DamagedAnt``.

    Raises:
        NotCompiledError: if its leg breaks in the middle of an episode.
    """
    if env.reshapes and env._damage_step:
        raise NotCompiledError("damage_step above 0 changes the body in the middle of an episode")
    return ant(env, damaged=True)


def distance_of_damaged_ant(env: Any, steps: int) -> dict[str, Any]:
    """What ``DamagedAnt`` tells in ``info`` after so many steps."""
    env._steps = steps
    told: dict[str, Any] = env._progress()
    return told


def humanoid(env: Any) -> Float64s:
    """Of Humanoid-v5."""
    return _parameters(
        env,
        env._ctrl_cost_weight,
        _skipped(env, 2),
        env._forward_reward_weight,
        env._healthy_reward,
        env._terminate_when_unhealthy,
        *env._healthy_z_range,
        env._contact_cost_weight,
        *env._contact_cost_range,
        *_shown(env),
        False,
        env.model.opt.timestep,
        1.0,  # its mass, of which ``weigh_humanoid`` knows
    )


def weigh_humanoid(env: Any, parameters: Float64s, state: Float64s) -> None:
    """Write what its bodies weigh in this episode: wrappers may have changed it."""
    parameters[kernels.TOTAL_MASS] = env.model.body_mass.sum()


def humanoid_standup(env: Any) -> Float64s:
    """Of HumanoidStandup-v5, which is never unhealthy."""
    unused = (0.0, 0.0, False, -math.inf, math.inf)
    return _parameters(
        env,
        env._ctrl_cost_weight,
        _skipped(env, 2),
        *unused,
        env._impact_cost_weight,
        *env._impact_cost_range,
        *_shown(env),
        True,
        env.model.opt.timestep,
        1.0,
    )


def _shown(env: Any) -> list[bool]:
    """Which parts there are in observations of a humanoid."""
    parts = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    return [getattr(env, f"_include_{part}_in_observation") is True for part in parts]


def reacher(env: Any) -> Float64s:
    """Of Reacher-v5."""
    bodies = [env.model.body(name).id for name in ("fingertip", "target")]
    weight = env._reward_dist_weight
    return _parameters(env, env._reward_control_weight, 0, _fused(), *bodies, weight)


def pusher(env: Any) -> Float64s:
    """Of Pusher-v5."""
    bodies = [env.model.body(name).id for name in ("tips_arm", "object", "goal")]
    weights = [env._reward_near_weight, env._reward_dist_weight]
    return _parameters(env, env._reward_control_weight, 0, _fused(), *bodies, *weights)


def inverted_pendulum(env: Any) -> Float64s:
    """Of InvertedPendulum-v5."""
    return _parameters(env, 0.0, 0)


def inverted_double_pendulum(env: Any) -> Float64s:
    """Of InvertedDoublePendulum-v5."""
    return _parameters(env, 0.0, 0, env._healthy_reward, 2.0)
