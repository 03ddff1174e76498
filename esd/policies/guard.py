"""A policy of the user's own, checked: nothing that it returns is trusted, and what it raises becomes one line.

Kernels read what a policy returns by its declared size, so a vector of another size would be foreign memory to them.
Size and type are looked at in every step; the rest when the policy is built, and at its first step. A run of the first
format is checked only for what could never have worked, so that it can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from esd.config.plugins import in_one_line, is_of_the_users_code, users_code
from esd.errors import EsdError, RunError, UsageError, shortened
from esd.evolution.layout import Layout
from esd.kernels.networks import CStep
from esd.policies.base import Interface, Policy

Float32s = npt.NDArray[np.float32]

PARTS = ("layout", "squashed", "initial_parameters", "load", "reset", "act")
FLOAT32 = np.dtype(np.float32)


class BrokenPolicyError(RunError):
    """A user's policy raised, or returned what an environment can't take."""


def unguarded(policy: Policy) -> Any:
    """The policy as the user has written it."""
    return policy.unguarded if isinstance(policy, GuardedPolicy) else policy


class GuardedPolicy:
    """A user's policy in front of everything that calls one.

    It has ``load_piece``, ``activities`` and ``weights`` if the user's has them, and hands on every other name.

    Attributes:
        unguarded: the user's.
        layout: the user's.
        squashed: the user's.
    """

    layout: Layout
    squashed: bool
    act: Callable[[Float32s], Float32s]

    def __init__(self, own: Any, who: str, interface: Interface, version: int) -> None:
        """Check what can be checked before the first step.

        Args:
            own: the user's policy.
            who: the setting that names it, for messages.
            interface: what it was built for.
            version: the format of the run.

        Raises:
            UsageError: naming what is missing or wrong.
        """
        self.unguarded, self._who, self._interface = own, who, interface
        self._strict = version >= 2
        self._call = getattr(own, "called", "act")  # a torch module's is forward
        with users_code(who, "reading its attributes"):
            missing = [part for part in PARTS if not hasattr(own, part)]
            if missing:
                raise UsageError(
                    f"{who}: lacks {', '.join(missing)} (see esd.policies.base.Policy), and is not a torch.nn.Module"
                )
            self.layout, self.squashed = own.layout, own.squashed
            self._act = own.act
            optional = {
                name: getattr(own, name)
                for name in ("load_piece", "activities", "weights")
                if hasattr(own, name)
            }
            network = getattr(own, "network", None)
        self._check_attributes(network)
        if "load_piece" in optional:  # attributes of the object: protocols look for nothing else
            self.load_piece = self._guarded("load_piece", optional["load_piece"])
        if "activities" in optional and "weights" in optional:
            self.activities = self._recorded("activities", optional["activities"], 1)
            self.weights = self._recorded("weights", optional["weights"], 2)
        self._started = False  # h_0 was asked for: the first step is that of a policy near it
        self._shape = (interface.action_size,)
        self._later = self._later_act()
        self.act = self._first_act

    def __getattr__(self, name: str) -> Any:
        """Whatever else the user's policy has."""
        if name == "unguarded":  # not built yet
            raise AttributeError(name)
        return getattr(self.unguarded, name)

    def _check_attributes(self, network: Any) -> None:
        """Layout, squashed, and the outputs of a compiled step."""
        if isinstance(network, CStep) and network.outputs.size != self._interface.action_size:
            raise UsageError(self._wrong_size(network.outputs.size, "its compiled step"))
        if not self._strict:
            return
        if not isinstance(self.layout, Layout):
            raise UsageError(
                f"{self._who}: layout is {described(self.layout)}, expected an esd.evolution.layout.Layout such as "
                'Layout({"w": (4, 2)})'
            )
        if not _is_well_shaped(self.layout.shapes):
            raise UsageError(
                f"{self._who}: layout has the shapes {shortened(repr(self.layout.shapes), 200)}, expected a tuple of "
                "whole numbers for each name"
            )
        if self.layout.size == 0:
            raise UsageError(f"{self._who}: it has no parameters to evolve")
        if not isinstance(self.squashed, bool | np.bool_):
            raise UsageError(
                f"{self._who}: squashed is {described(self.squashed)}, expected True (outputs are within [-1, 1]) or "
                "False"
            )

    def initial_parameters(self, seed: int) -> Float32s:
        """See ``Policy.initial_parameters``; asked twice, because the two must be equal.

        Raises:
            UsageError: if they aren't, or are no finite float32 [|h|].
        """
        with users_code(self._who, "initial_parameters"):
            h = self.unguarded.initial_parameters(seed)
            if not self._strict:
                first: Float32s = h
                return first
            h = self._checked_h0(h).copy()  # it may be in memory that the next call overwrites
            again = self._checked_h0(self.unguarded.initial_parameters(seed))
        if h.tobytes() != again.tobytes():
            raise UsageError(
                f"{self._who}: initial_parameters gave two results for the seed {seed}, so the run could not be "
                "reproduced; draw from np.random.default_rng(seed)"
            )
        self._started = True
        return h

    def _checked_h0(self, h: Any) -> Float32s:
        """H_0 if it is one."""
        size = self.layout.size
        expected = f"expected float32 [{size}], as many as layout has"
        if not isinstance(h, np.ndarray) or h.shape != (size,) or h.dtype != FLOAT32:
            hint = ""
            if isinstance(h, np.ndarray) and h.shape == (size,):
                hint = "; end it with .astype(np.float32)"
            raise UsageError(
                f"{self._who}: initial_parameters returned {described(h)}, {expected}{hint}"
            )
        finite = np.isfinite(h)
        if not finite.all():
            raise UsageError(
                f"{self._who}: initial_parameters returned {h[~finite][0]} among its numbers, expected finite ones"
            )
        return np.ascontiguousarray(h)

    def load(self, parameters: Float32s) -> None:
        """See ``Policy.load``."""
        try:
            self.unguarded.load(parameters)
        except BaseException as error:
            self._failed("load", error)

    def reset(self, seed: int) -> None:
        """See ``Policy.reset``."""
        try:
            self.unguarded.reset(seed)
        except BaseException as error:
            self._failed("reset", error)

    def _first_act(self, observation: Float32s) -> Float32s:
        """The first step, which is looked at more closely; whoever has got hold of this goes on with the others."""
        if self.act == self._later:
            return self._later(observation)
        seen_is_finite = bool(np.isfinite(observation).all())
        try:
            outputs = self._checked(self._act(observation))
        except RunError as error:  # nothing has been done yet
            raise UsageError(str(error)) from error.__cause__
        except BaseException as error:
            self._failed(self._call, error, UsageError)
        if self._strict and self._started and seen_is_finite and not np.isfinite(outputs).all():
            wrong = outputs[~np.isfinite(outputs)][0]
            raise UsageError(
                f"{self._who}: {self._call} returned {wrong} for the first observation, which is finite; expected "
                "finite numbers"
            )
        self.act = self._later
        return outputs

    def _later_act(self) -> Callable[[Float32s], Float32s]:
        """What every step calls: all that a kernel relies on is looked at."""
        act, shape, float32, array = self._act, self._shape, FLOAT32, np.ndarray

        def checked(observation: Float32s) -> Float32s:
            try:
                outputs: Float32s = act(observation)
            except BaseException as error:
                self._failed(self._call, error)
            if type(outputs) is array and outputs.shape == shape and outputs.dtype is float32:
                return outputs
            return self._checked(outputs)

        return checked

    def _checked(self, outputs: Any) -> Float32s:
        """Outputs that are no plain float32 [action_size], if they can be taken.

        Raises:
            BrokenPolicyError: if they can't.
        """
        expected = f"expected float32 [{self._shape[0]}]"
        if not isinstance(outputs, np.ndarray) or isinstance(outputs, np.ma.MaskedArray):
            raise BrokenPolicyError(
                f"{self._who}: {self._call} returned {described(outputs)}, {expected} as a numpy array"
            )
        if outputs.shape != self._shape:
            if outputs.size == self._shape[0]:
                raise BrokenPolicyError(
                    f"{self._who}: {self._call} returned {described(outputs)}, {expected}; end it with .reshape(-1)"
                )
            raise BrokenPolicyError(self._wrong_size(outputs.size, self._call))
        if outputs.dtype != FLOAT32 and (self._strict or outputs.dtype.kind not in "fiub"):
            hint = "" if outputs.dtype.kind == "c" else "; end it with .astype(np.float32)"
            raise BrokenPolicyError(
                f"{self._who}: {self._call} returned {described(outputs)}, {expected}{hint}"
            )
        return np.asarray(outputs)

    def _wrong_size(self, size: int, call: str) -> str:
        return wrong_size(self._who, call, size, self._interface)

    def _guarded(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        """A method whose failures become one line."""

        def guarded(*arguments: Any) -> None:
            try:
                call(*arguments)
            except BaseException as error:
                self._failed(name, error)

        return guarded

    def _recorded(
        self, name: str, call: Callable[[], Any], axes: int
    ) -> Callable[[], list[Float32s]]:
        """A method of ``Traceable``: what it returns are arrays, of the same shapes every time."""
        shapes: list[tuple[int, ...]] | None = None

        def recorded() -> list[Float32s]:
            nonlocal shapes
            try:
                found = call()
            except BaseException as error:
                self._failed(name, error, UsageError)
            arrays = list(found) if isinstance(found, list | tuple) else []
            right = isinstance(found, list | tuple) and all(
                isinstance(array, np.ndarray) and array.ndim == axes and array.dtype.kind in "fiub"
                for array in arrays
            )
            if not right:
                raise UsageError(
                    f"{self._who}: {name} returned {described(found)}, expected a list of float32 arrays with "
                    f"{axes} {'axis' if axes == 1 else 'axes'} (see esd.policies.base.Traceable)"
                )
            now = [array.shape for array in arrays]
            if shapes is not None and now != shapes:
                raise UsageError(
                    f"{self._who}: {name} returned arrays of the shapes {shortened(str(now))}, before of "
                    f"{shortened(str(shapes))}; they must stay the same"
                )
            shapes = now
            return arrays

        return recorded

    def _failed(
        self, call: str, error: BaseException, failure: type[EsdError] = BrokenPolicyError
    ) -> NoReturn:
        """Raise what an error of the user's code becomes, or the error itself if it is none of theirs."""
        if not is_of_the_users_code(error):
            raise error
        raise failure(f"{self._who}: {call} raised {in_one_line(error)}") from error


def wrong_size(who: str, call: str, size: int, interface: Interface) -> str:
    """What is said of outputs of another number than actions need."""
    space, hint = interface.actions, ""
    if space.startswith("Discrete"):
        hint = ", one output for each choice"
    elif space.startswith("Multi"):
        hint = ", one output for each choice of each action"
    named = f" ({space}{hint})" if space else ""
    return (
        f"{who}: {call} returned {size} {'number' if size == 1 else 'numbers'}, but the environment's actions need "
        f"{interface.action_size}{named}"
    )


def _is_well_shaped(shapes: Any) -> bool:
    return isinstance(shapes, Mapping) and all(
        isinstance(name, str)
        and isinstance(shape, tuple)
        and all(
            isinstance(length, int | np.integer) and not isinstance(length, bool) and length >= 0
            for length in shape
        )
        for name, shape in shapes.items()
    )


def described(value: Any) -> str:
    """What came, for messages: kinds and sizes, not contents."""
    if value is None:
        return "None (is a return missing?)"
    kind = type(value)
    name = shortened(kind.__name__, 60)
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array of shape {value.shape}"
    if isinstance(value, np.ndarray):
        dtype = value.dtype.name if value.dtype.isnative else value.dtype.str
        return f"{shortened(dtype, 60)} {list(value.shape)}"
    if kind.__module__.partition(".")[0] == "torch":
        return f"a torch.{name} (end it with .numpy())" if name == "Tensor" else f"a torch {name}"
    if isinstance(value, list | tuple):
        return f"a {name} of {len(value)}"
    if isinstance(value, bool | float | complex | str) or (
        isinstance(value, int) and abs(value) < 10**60
    ):
        return f"{shortened(repr(value), 60)} ({name})"
    return f"a {name}"
