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

from esd.episodes.gymnasium_steps import SteppedEnvironment, keeps_steps
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import UsageError
from esd.kernels import episode, many_episodes
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


class CompiledStep(Protocol):
    """What ``env.unwrapped.compiled`` has to have, without a ``reset_address``, if the reset is the environment's own.

    If its ``metadata`` names results, it has a method ``info``, which gives them for an episode of so many steps.

    Attributes:
        step_address: of the C function that makes a step.
        parameters: float64, the same in all episodes.
        state: float64, an episode's own.
        observation: flat, float64 if the observation space is, else float32; ``step`` writes it.
    """

    step_address: int
    parameters: Float64s
    state: Float64s
    observation: npt.NDArray[Any]

    def begin(self) -> None:
        """Write what the step begins with; the environment has just been reset."""


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


def offered(
    env: gymnasium.Env[Any, Any], name: str, limit: int
) -> CompiledEnvironment | CompiledStep | None:
    """What an environment offers as ``compiled``, if it offers something and no wrapper changes what its steps do.

    Args:
        env: with its wrappers.
        name: its id, for messages.
        limit: of an episode's steps.

    Raises:
        UsageError: if it is not what ``CompiledEnvironment`` or ``CompiledStep`` describes.
    """
    while isinstance(env, gymnasium.Wrapper) and keeps_steps(env, limit):
        env = env.env
    found = getattr(env, "compiled", None)
    # what has neither is something else that happens to be called so
    addresses = [key for key in ("reset_address", "step_address") if hasattr(found, key)]
    if isinstance(env, gymnasium.Wrapper) or not addresses:
        return None
    resets_itself = "reset_address" not in addresses and callable(getattr(found, "begin", None))
    for key in ("step_address",) if resets_itself else ("reset_address", "step_address"):
        address = getattr(found, key, None)
        if not isinstance(address, int | np.integer) or not 0 < address < 2**63:
            raise UsageError(
                f"env.id = {name!r}: compiled.{key} is {address!r}, expected the address of a C function"
            )
    space = env.observation_space
    if resets_itself:
        size = int(spaces.flatdim(space))
        wide = space.dtype == np.float64
        _check_vector(found, "observation", name, np.float64 if wide else np.float32, size)
    elif not isinstance(space, spaces.Box) or space.dtype != np.float32:
        raise UsageError(
            f"env.id = {name!r}: offers compiled episodes, so its observation space has to be a Box of float32, "
            f"not {space}"
        )
    for key in ("parameters", "state"):
        _check_vector(found, key, name, np.float64)
    return cast(CompiledEnvironment | CompiledStep, found)


def _check_vector(
    found: Any, key: str, name: str, kind: type[np.floating[Any]], size: int | None = None
) -> None:
    """Make sure that C can be given a vector's address."""
    array: Any = getattr(found, key, None)
    right = isinstance(array, np.ndarray) and array.dtype == kind and array.ndim == 1
    if not right or size not in (None, array.size):
        what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else array
        long = "" if size is None else f" of {size:,} numbers"
        raise UsageError(
            f"env.id = {name!r}: compiled.{key} is {what}, expected a {kind.__name__} vector{long}"
        )
    if not array.flags.c_contiguous or (key != "parameters" and not array.flags.writeable):
        raise UsageError(
            f"env.id = {name!r}: compiled.{key} has to be contiguous and writable; use a copy of it"
        )


class CompiledSteps:
    """A compiled environment, of which every step is one call of C.

    Attributes:
        addresses: int64 [2], of the C functions that reset and step; the first is 0 if the environment resets itself.
        arrays: parameters and state of the environment.
        shown: the observation as its step writes it.
        double: observations are normalized from float64.
        decode: from outputs to actions; ``tables`` are its tables.
        observation_size: numbers in an observation.
        has_lanes: several episodes may be under way at once, in memory of their own.
        info: gives what the environment says at the end of an episode of so many steps.
    """

    def __init__(
        self,
        environment: CompiledEnvironment | SteppedEnvironment,
        observe: ObservationFlattener,
        decode: ActionDecoder,
    ) -> None:
        """Collect what kernels work on.

        Args:
            environment: what is played in.
            observe: from observations to what the policy gets.
            decode: from outputs to actions.
        """
        self._begin: Callable[[int], None] | None = None
        self.info: Callable[[int], dict[str, Any]] = lambda steps: {}
        self.observation_size = observe.size
        self._observation = np.zeros(observe.size, np.float32)
        self.shown: npt.NDArray[Any] = self._observation
        if isinstance(environment, SteppedEnvironment):
            self._begin, self.shown = environment.begin, environment.shown
            self.info = environment.info
            addresses = [0, environment.step_address]
        else:
            addresses = [environment.reset_address, environment.step_address]
        self.addresses = np.array(addresses, np.int64)
        self.arrays = (environment.parameters, environment.state)
        assert decode.tables is not None
        self.tables, self.decode = decode.tables, decode
        self.has_lanes = getattr(environment, "has_lanes", True)
        self.double = observe.buffer.dtype == np.float64

    def begin_episode(self, seed: int) -> None:
        """Begin an episode of an environment that resets itself, in its own memory."""
        assert self._begin is not None
        self._begin(seed)

    def begin_elsewhere(
        self, seed: int, parameters: Float64s, state: Float64s, shown: npt.NDArray[Any]
    ) -> None:
        """Begin an episode in memory that is not the environment's own; in several at once only if it ``has_lanes``.

        Args:
            seed: of the environment.
            parameters: what its step reads, at least as long as its own; written.
            state: what it keeps, the same.
            shown: the first observation; written.
        """
        own_parameters, own_state = self.arrays
        if self._begin is not None:
            self._begin(seed)
            state[: own_state.size] = own_state
            shown[:] = self.shown
        parameters[: own_parameters.size] = own_parameters
        if self._begin is None:
            many_episodes.begin(self.addresses[0], np.uint64(seed), parameters, state, shown)


class CompiledEpisodes(CompiledSteps):
    """A compiled environment and a policy's network, playing whole episodes in one call."""

    def __init__(
        self,
        environment: CompiledEnvironment | SteppedEnvironment,
        policy: HasNetwork,
        observe: ObservationFlattener,
        decode: ActionDecoder,
    ) -> None:
        """Collect what the kernel works on: see ``CompiledSteps``, and ``policy`` is what plays."""
        super().__init__(environment, observe, decode)
        self._reset: Callable[[int], None] = policy.reset
        self._seen = (
            self.shown,
            self._observation,
            np.zeros(decode.action_size, np.float32),
            np.zeros(1),
        )
        self._network = policy.network
        self._bounds = np.zeros(4, np.int64)

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
        if self._begin is not None:
            self._begin(environment_seed)
        self._bounds[:3] = bounds
        self._bounds[3] = self.double and scale[0].size
        total, steps = episode.play(
            self.addresses,
            self._bounds,
            self.arrays,
            self._seen,
            self.tables,
            self.decode.squashed,
            scale,
            sums,
            self._network,
            np.uint64(environment_seed),
        )
        return total, steps

    def left_behind(self) -> bytes:
        """The last observation, action and reward of the last episode."""
        return b"".join(array.tobytes() for array in self._seen)
