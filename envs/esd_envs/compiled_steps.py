"""Gymnasium's own environments with compiled steps: which are known, and what a program plays their episodes with.

An episode begins with the environment's own ``reset``, or with a C function that has its bits; every step after it is
one C function (``kernels.gymnasium_classic``, ``kernels.mujoco``), with the bits of the environment's own ``step``.
That is so for the very classes and releases that are known, and on a machine where numpy's sine, cosine and power are
those of C.
"""

from __future__ import annotations

import functools
import importlib
import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]

RELEASES = ("1.1.0", "1.1.1", "1.2.0", "1.2.1", "1.2.2", "1.2.3", "1.3.0", "1.4.0")


@dataclass(frozen=True)
class Known:
    """How an environment's steps are played.

    Attributes:
        step: the function in ``kernels``, as ``module:name``.
        parameters: gives what the step reads of an environment, as ``module:name``.
        state: how many numbers the step keeps, or needs to compute with.
        begin: writes parameters and state after a reset, as ``module:name``; empty: there is nothing to write.
        has_lanes: see ``CompiledStep``.
        reset: the function in ``kernels`` that resets without options, as ``module:name``; empty: there is none.
        info: gives what ``info`` says after so many steps, as ``module:name``; empty: nothing that is asked for.
    """

    step: str
    parameters: str
    state: int
    begin: str = ""
    info: str = ""
    has_lanes: bool = False
    reset: str = ""


_CLASSIC = "gymnasium.envs.classic_control"
_TEXT = "gymnasium.envs.toy_text"
_MUJOCO = "gymnasium.envs.mujoco"


def _classic(
    step: str, parameters: str, state: int, begin: str = "state", reset: str = ""
) -> Known:
    module = "esd_envs.compiled_classic"
    kernels = "esd_envs.kernels.gymnasium_classic"
    return Known(
        f"{kernels}:{step}",
        f"{module}:{parameters}",
        state,
        f"{module}:{begin}",
        has_lanes=begin == "state",  # a table draws from a generator of its environment's
        reset=reset and f"{kernels}:{reset}",
    )


def _mujoco(step: str, parameters: str, begin: str = "", info: str = "") -> Known:
    module = "esd_envs.compiled_mujoco"
    return Known(
        f"esd_envs.kernels.mujoco:{step}",
        f"{module}:{parameters}",
        SCRATCH,
        begin and f"{module}:{begin}",
        info and f"{module}:{info}",
    )


SCRATCH = 256  # numbers that are squared before they are summed, at most

# by module and name of the class
KNOWN = {
    f"{_CLASSIC}.cartpole:CartPoleEnv": _classic(
        "step_cart_pole", "cart_pole", 4, reset="reset_cart_pole"
    ),
    f"{_CLASSIC}.pendulum:PendulumEnv": _classic(
        "step_pendulum", "pendulum", 2, reset="reset_pendulum"
    ),
    f"{_CLASSIC}.mountain_car:MountainCarEnv": _classic(
        "step_mountain_car", "mountain_car", 3, reset="reset_mountain_car"
    ),
    f"{_CLASSIC}.continuous_mountain_car:Continuous_MountainCarEnv": _classic(
        "step_mountain_car_continuous", "mountain_car_continuous", 3, reset="reset_mountain_car"
    ),
    f"{_CLASSIC}.acrobot:AcrobotEnv": _classic("step_acrobot", "acrobot", 4),
    f"{_TEXT}.frozen_lake:FrozenLakeEnv": _classic("step_table", "table", 3, "place"),
    f"{_TEXT}.cliffwalking:CliffWalkingEnv": _classic("step_table", "table", 3, "place"),
    f"{_TEXT}.taxi:TaxiEnv": _classic("step_table", "table", 3, "place"),
    f"{_MUJOCO}.half_cheetah_v5:HalfCheetahEnv": _mujoco("step_half_cheetah", "half_cheetah"),
    f"{_MUJOCO}.swimmer_v5:SwimmerEnv": _mujoco("step_half_cheetah", "swimmer"),
    f"{_MUJOCO}.hopper_v5:HopperEnv": _mujoco("step_hopper", "hopper"),
    f"{_MUJOCO}.walker2d_v5:Walker2dEnv": _mujoco("step_hopper", "hopper"),
    f"{_MUJOCO}.ant_v5:AntEnv": _mujoco("step_ant", "ant"),
    "esd_envs.damaged_ant:DamagedAnt": _mujoco(
        "step_ant", "damaged_ant", info="distance_of_damaged_ant"
    ),
    f"{_MUJOCO}.humanoid_v5:HumanoidEnv": _mujoco(
        "step_humanoid", "humanoid", begin="weigh_humanoid"
    ),
    f"{_MUJOCO}.humanoidstandup_v5:HumanoidStandupEnv": _mujoco(
        "step_humanoid", "humanoid_standup"
    ),
    f"{_MUJOCO}.reacher_v5:ReacherEnv": _mujoco("step_reacher", "reacher"),
    f"{_MUJOCO}.pusher_v5:PusherEnv": _mujoco("step_pusher", "pusher"),
    f"{_MUJOCO}.inverted_pendulum_v5:InvertedPendulumEnv": _mujoco(
        "step_inverted_pendulum", "inverted_pendulum"
    ),
    f"{_MUJOCO}.inverted_double_pendulum_v5:InvertedDoublePendulumEnv": _mujoco(
        "step_inverted_double_pendulum", "inverted_double_pendulum"
    ),
}


class NotCompiledError(Exception):
    """Why a known environment is played by its own ``step`` all the same."""


class CompiledStep:
    """The step of an environment, and its memory.

    Attributes:
        step_address: of the C function that makes a step.
        reset_address: of the C function that begins an episode; 0: the environment resets itself.
        parameters: float64, what it reads: the same in all episodes.
        state: float64, an episode's own.
        observation: of the type that the step writes, float32 or float64; flat.
        has_lanes: the step reads nothing of the environment but parameters and state.
        weighs: an episode begins with numbers of the model that a change in the middle would make wrong.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], known: Known) -> None:
        """Prepare the step of an environment.

        Raises:
            NotCompiledError: if it can't be played so with its keyword arguments.
        """
        self._env = env
        self._begin, self._info = (_found(name) for name in (known.begin, known.info))
        self.weighs = self._begin is not None
        self.parameters: Float64s = np.array(_found(known.parameters)(env), np.float64)
        self.state = np.zeros(known.state)
        self.has_lanes = known.has_lanes
        space = env.observation_space
        size = int(gymnasium.spaces.flatdim(space))
        self.observation = np.zeros(size, np.float64 if space.dtype == np.float64 else np.float32)
        self.step_address: int = _found(known.step).address
        self.reset_address = 0
        if known.reset and uniforms_agree():
            self.reset_address = _found(known.reset).address

    def begin(self) -> None:
        """Take over from the environment, which has just been reset."""
        if self._begin is not None:
            self._begin(self._env, self.parameters, self.state)

    def info(self, steps: int) -> dict[str, Any]:
        """What the environment says in ``info`` after so many steps, as far as its ``metadata["results"]`` names it."""
        return {} if self._info is None else self._info(self._env, steps)


def compiled_step(env: gymnasium.Env[Any, Any]) -> CompiledStep | None:
    """The compiled step of an environment without wrappers; None for one that is not known.

    Raises:
        NotCompiledError: if it is known, but can't be played so; the reason in words.
    """
    known = KNOWN.get(f"{type(env).__module__}:{type(env).__qualname__}")
    if known is None:
        return None
    if gymnasium.__version__ not in RELEASES:
        raise NotCompiledError(f"Gymnasium {gymnasium.__version__} is not one of {RELEASES}")
    if not elementary_functions_agree():
        raise NotCompiledError("numpy's sine, cosine or power has other bits than C's here")
    if getattr(env, "render_mode", None) == "human":
        raise NotCompiledError('render_mode = "human" shows every step')
    return CompiledStep(env, known)


@functools.cache
def elementary_functions_agree() -> bool:
    """Whether numpy's sine, cosine and power are C's, as Python's own are; some of numpy's builds have their own."""
    values = np.random.default_rng(0).uniform(-8.0, 8.0, 2000)
    one_by_one = values.tolist()
    return (
        np.sin(values).tolist() == [math.sin(v) for v in one_by_one]
        and np.cos(values).tolist() == [math.cos(v) for v in one_by_one]
        and all(float(v**2) == math.pow(v, 2.0) for v in values)
    )


@functools.cache
def uniforms_agree() -> bool:
    """Whether NumPy draws what the compiled resets draw; a build may round product and sum at once."""
    from esd_envs.kernels.numpy_random import uniforms

    seeds = (0, 1, 12, 2**31 - 1, *range(1000, 1200))
    own, found = np.empty(4), []
    for seed in seeds:
        uniforms(np.uint64(seed), -0.6, -0.4 - -0.6, own)
        found.append(own.tolist())
    generators = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(s))) for s in seeds]
    return found == [generator.uniform(-0.6, -0.4, 4).tolist() for generator in generators]


def _found(reference: str) -> Any:
    if not reference:
        return None
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
