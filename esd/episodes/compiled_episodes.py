"""Environments that offer their physics as C functions, so that a whole episode is one compiled call.

Offered as ``env.unwrapped.compiled``, by the environments of ``esd_envs`` as well as by a user's own, in whatever
language: two functions of C's calling convention, by their addresses,

    int64_t reset(uint64_t seed, const double *parameters, double *state, float *observation);
    int64_t step(const float *action, const double *parameters, double *state, float *observation, double *reward);

``reset`` begins the episode of a seed and writes its first observation; ``step`` writes reward and observation, and
returns whether the episode has terminated (not 0). A discrete action is the number of the choice; each of several
choices, or of a Box's numbers, has its place in ``action``. All that an episode depends on is in the seed, the
parameters and the state; functions that draw from elsewhere break law 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from esd.episodes.spaces import ActionDecoder
from esd.errors import UsageError
from esd.kernels import episode
from esd.kernels.networks import Network, has_step

Float64s = npt.NDArray[np.float64]


class CompiledEnvironment(Protocol):
    """What ``env.unwrapped.compiled`` has to have.

    Attributes:
        reset_address: of the C function that begins an episode.
        step_address: of the C function that makes a step.
        parameters: float64, the same in all episodes.
        state: float64, an episode's own; ``reset`` writes all of it.
    """

    reset_address: int
    step_address: int
    parameters: Float64s
    state: Float64s


class HasNetwork(Protocol):
    """A policy all of whose ``act`` is a compiled step."""

    @property
    def network(self) -> Network:
        """What that step works on."""

    def reset(self, seed: int) -> None:
        """Begin an episode."""


def is_its_network(policy: object) -> TypeGuard[HasNetwork]:
    """Whether a policy is one: the class that says how it acts has the network, and no subclass acts otherwise."""
    acts = next((c for c in type(policy).__mro__ if "act" in vars(c)), None)
    if acts is None or "network" not in vars(acts):
        return False
    return has_step(getattr(policy, "network", None))


def offered(env: gymnasium.Env[Any, Any], name: str) -> CompiledEnvironment | None:
    """An environment's compiled physics, if it has some and no wrapper changes what they do.

    Raises:
        UsageError: if what it offers is not what ``CompiledEnvironment`` describes.
    """
    while type(env) in (OrderEnforcing, TimeLimit):
        env = env.env  # type: ignore[attr-defined]  # both are wrappers
    found = getattr(env, "compiled", None)
    addresses = ("reset_address", "step_address")
    # what has neither is something else that happens to be called so
    if isinstance(env, gymnasium.Wrapper) or not any(hasattr(found, key) for key in addresses):
        return None
    for key in addresses:
        address = getattr(found, key, None)
        if not isinstance(address, int | np.integer) or not 0 < address < 2**63:
            raise UsageError(
                f"env.id = {name!r}: compiled.{key} is {address!r}, expected the address of a C function"
            )
    for key in ("parameters", "state"):
        array = getattr(found, key, None)
        if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.ndim != 1:
            what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else array
            raise UsageError(
                f"env.id = {name!r}: compiled.{key} is {what}, expected a float64 vector"
            )
        if not array.flags.c_contiguous or (key == "state" and not array.flags.writeable):
            raise UsageError(  # C is given its address alone
                f"env.id = {name!r}: compiled.{key} has to be contiguous and writable; take a copy of it"
            )
    space = env.observation_space
    if not isinstance(space, spaces.Box) or space.dtype != np.float32:
        raise UsageError(
            f"env.id = {name!r}: offers compiled episodes, so its observation space has to be a Box of float32, "
            f"not {space}"
        )
    return cast(CompiledEnvironment, found)


class CompiledEpisodes:
    """A compiled environment and a policy's network, playing.

    Args:
        environment: what is played in.
        policy: what plays.
        observation_size: numbers in an observation.
        decode: from outputs to actions.
    """

    def __init__(
        self,
        environment: CompiledEnvironment,
        policy: HasNetwork,
        observation_size: int,
        decode: ActionDecoder,
    ) -> None:
        """Collect what the kernel works on."""
        self._reset: Callable[[int], None] = policy.reset
        self._addresses = np.array([environment.reset_address, environment.step_address], np.int64)
        self._arrays = (environment.parameters, environment.state)
        self._seen = (
            np.zeros(observation_size, np.float32),
            np.zeros(decode.action_size, np.float32),
            np.zeros(1),
        )
        assert decode.tables is not None
        self._tables, self._decode = decode.tables, decode
        self._network = policy.network
        self._bounds = np.zeros(3, np.int64)

    def play(
        self,
        environment_seed: int,
        policy_seed: int,
        bounds: tuple[int, int, bool],
        scale: tuple[Float64s, Float64s],
        sums: Float64s,
    ) -> tuple[float, int]:
        """Play one episode.

        Args:
            environment_seed: of the environment.
            policy_seed: of the policy.
            bounds: steps, and negative rewards in a row (0: any), after which the episode ends, and whether an
                observation that is not finite ends it, too.
            scale: mean and inverse deviation of observations, float64 [observation_size]; of size 0 without.
            sums: float64 [2, observation_size], sums and squares of observations; added to.

        Returns:
            Its return (NaN if an action or such an observation was not finite) and its steps.
        """
        self._reset(policy_seed)
        self._bounds[:] = bounds
        total, steps = episode.play(
            self._addresses,
            self._bounds,
            self._arrays,
            self._seen,
            self._tables,
            self._decode.squashed,
            scale,
            sums,
            self._network,
            np.uint64(environment_seed),
        )
        return total, steps

    def left_behind(self) -> bytes:
        """The last observation, action and reward of the last episode."""
        return b"".join(array.tobytes() for array in self._seen)
