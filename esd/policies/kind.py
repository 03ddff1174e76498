"""What a policy kind is to the rest of esd: one descriptor, which stands in the kind's own file."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from esd.config.plugins import in_one_line, is_of_the_users_code
from esd.errors import UsageError, shortened
from esd.policies.base import Policy

LockstepBuilder = Callable[..., Any]  # ``lockstep.policies.BatchPolicy``, which imports torch


@dataclass(frozen=True)
class PolicyKind:
    """One line of ``config.kinds.POLICIES``.

    What else a kind can do, its policies say themselves: activities and weights for ``esd eval --trace`` by the
    protocol ``base.Traceable``, a compiled step by a property ``network`` (see ``kernels.networks``).

    Attributes:
        settings: a dataclass of what [policy] may hold beside ``kind``; its fields are made by
            ``config.fields.setting``.
        build: makes a policy from (interface, settings), and keyword arguments if there are any.
        lockstep: makes the ``lockstep.policies.BatchPolicy`` from (policy, settings, interface, slots, device), or
            where that function is, ``module:name``, to be imported only when it is used; None: the kind can't be
            evaluated in lock-step.
        same_bits: its policies give the same bits on every device and alone as in lock-step.
        takes_kwargs: [policy] may hold ``kwargs``, keyword arguments of ``build``.
    """

    settings: type[Any]
    build: Callable[..., Policy]
    lockstep: str | LockstepBuilder | None = None
    same_bits: bool = False
    takes_kwargs: bool = False

    def lockstep_builder(self) -> LockstepBuilder | None:
        """``lockstep``, imported."""
        if not isinstance(self.lockstep, str):
            return self.lockstep
        module, _, name = self.lockstep.partition(":")
        try:
            builder: LockstepBuilder = getattr(importlib.import_module(module), name)
        except BaseException as error:
            if not is_of_the_users_code(error):
                raise
            raise UsageError(
                f"lock-step builder {shortened(repr(self.lockstep))}: can't be imported ({in_one_line(error)}); "
                "expected module:name of a function"
            ) from error
        return builder


@dataclass(frozen=True)
class NoSettings:
    """Of a class that declares none."""


def declared_settings(policy_class: Any) -> type[Any]:
    """The dataclass that a class of a user's own names as ``settings``; ``NoSettings`` if it names none."""
    declared = getattr(policy_class, "settings", None)
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return declared
    return NoSettings
