"""A user's policy in lock-step, checked like one that plays alone (``policies.guard``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esd.config.plugins import in_one_line, is_of_the_users_code, users_code
from esd.errors import RunError, UsageError
from esd.policies.base import Interface
from esd.policies.guard import described, wrong_size

Float32s = npt.NDArray[np.float32]

PARTS = ("same_bits", "load", "reset", "act")


class GuardedBatch:
    """See ``lockstep.policies.BatchPolicy``; other names are the user's.

    Attributes:
        unguarded: the user's.
        same_bits: the user's.
    """

    def __init__(self, own: Any, who: str, interface: Interface, slots: int, version: int) -> None:
        """Look at what a lock-step builder has made.

        Raises:
            UsageError: if something is missing.
        """
        self.unguarded, self._who, self._interface = own, f"{who} in lock-step", interface
        with users_code(self._who, "reading its attributes"):
            missing = [part for part in PARTS if not hasattr(own, part)]
            if missing:
                raise UsageError(
                    f"{who}: what its lock-step builder returned ({described(own)}) lacks {', '.join(missing)} (see "
                    "esd.lockstep.policies.BatchPolicy)"
                )
            self.same_bits = own.same_bits is True
        self._shape = (slots, interface.action_size)
        self._strict = version >= 2  # see ``policies.guard``

    def __getattr__(self, name: str) -> Any:
        """Whatever else the user's has."""
        if name == "unguarded":  # not built yet
            raise AttributeError(name)
        return getattr(self.unguarded, name)

    def load(self, slots: Sequence[int], parameters: Tensor) -> None:
        """See ``BatchPolicy.load``."""
        try:
            self.unguarded.load(slots, parameters)
        except BaseException as error:
            self._failed("load", error)

    def reset(self, slot: int, seed: int) -> None:
        """See ``BatchPolicy.reset``."""
        try:
            self.unguarded.reset(slot, seed)
        except BaseException as error:
            self._failed("reset", error)

    def act(self, observations: Float32s) -> Float32s:
        """See ``BatchPolicy.act``.

        Raises:
            RunError: if it raises, or what it returns is not float32 [slots, action_size].
        """
        try:
            outputs: Float32s = self.unguarded.act(observations)
        except BaseException as error:
            self._failed("act", error)
        if (
            type(outputs) is np.ndarray
            and outputs.shape == self._shape
            and outputs.dtype == np.float32
        ):
            return outputs
        slots, size = self._shape
        if isinstance(outputs, np.ndarray) and outputs.ndim == 2 and len(outputs) == slots:
            if outputs.shape[1] != size:
                raise RunError(wrong_size(self._who, "act", outputs.shape[1], self._interface))
            if outputs.dtype.kind in "fiub" and not self._strict:
                return np.asarray(outputs)
        raise RunError(
            f"{self._who}: act returned {described(outputs)}, expected float32 [{slots}, {size}] as a numpy array"
        )

    def _failed(self, call: str, error: BaseException) -> NoReturn:
        if not is_of_the_users_code(error):
            raise error
        raise RunError(f"{self._who}: {call} raised {in_one_line(error)}") from error
