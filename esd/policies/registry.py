"""From [policy] in a config to a policy object."""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

from esd.config.keywords import fresh
from esd.config.kinds import POLICIES
from esd.config.policies import ModuleSettings, PolicyConfig
from esd.config.tables import parse_settings
from esd.errors import UsageError
from esd.policies.base import Interface, Policy
from esd.policies.kind import NoSettings, PolicyKind, declared_settings

PARTS = ("layout", "squashed", "initial_parameters", "load", "reset", "act")


def make_policy(config: PolicyConfig, interface: Interface) -> Policy:
    """Build the policy for an environment.

    Raises:
        UsageError: if a user's class can't be imported, doesn't follow the protocol, or has other settings.
    """
    kind, settings, kwargs = find_kind(config)
    return kind.build(interface, settings, **kwargs)


def find_kind(config: PolicyConfig) -> tuple[PolicyKind, Any, dict[str, Any]]:
    """What a config's kind is, its settings, and keyword arguments of its builder.

    Raises:
        UsageError: if the kind can't be imported, or has no such settings.
    """
    found = POLICIES.find(config.kind)
    kind = found if isinstance(found, PolicyKind) else _kind_of_class(config.kind, found)
    if not isinstance(config.settings, ModuleSettings):
        return kind, config.settings, {}
    own, kwargs = dict(config.settings.own), fresh(config.settings.kwargs)
    if kwargs and not kind.takes_kwargs:  # no key of its settings, and so told to be unknown
        own["kwargs"] = kwargs
    known = ("kwargs",) if kind.takes_kwargs else ()
    settings = parse_settings(kind.settings, own, "policy", f"policy.kind = {config.kind!r}", known)
    return kind, settings, kwargs


def _kind_of_class(name: str, policy_class: Any) -> PolicyKind:
    """The kind that is a class of the user's: a torch.nn.Module, or anything that follows ``base.Policy``."""
    if not callable(policy_class):
        raise UsageError(
            f"policy.kind = {name!r}: is a {type(policy_class).__name__}, expected a class or a PolicyKind"
        )
    torch = sys.modules.get("torch")  # whoever wrote an nn.Module has imported it by now
    is_module = (
        torch is not None
        and isinstance(policy_class, type)
        and issubclass(policy_class, torch.nn.Module)
    )
    return PolicyKind(
        declared_settings(policy_class),
        functools.partial(_build_class, name, policy_class, is_module),
        lockstep=getattr(
            policy_class, "lockstep", "esd.lockstep.policies:module" if is_module else None
        ),
        same_bits=getattr(policy_class, "same_bits", False) is True,
        takes_kwargs=True,
    )


def _build_class(
    name: str,
    policy_class: Any,
    is_module: bool,
    interface: Interface,
    settings: Any,
    **kwargs: Any,
) -> Policy:
    """An object of a user's class, which gets its settings only if it declares some."""
    declared = () if isinstance(settings, NoSettings) else (settings,)
    try:
        if is_module:
            from esd.policies.torch_module import TorchPolicy

            policy: Policy = TorchPolicy(policy_class, interface, kwargs, declared)
        else:
            policy = policy_class(interface, *declared, **kwargs)
    except TypeError as error:
        given = f"policy.kwargs = {kwargs}"
        if declared:
            given += f" and settings {dataclasses.asdict(settings)}"
        raise UsageError(
            f"policy.kind = {name!r}: can't be built with {given} ({error})"
        ) from error
    missing = [part for part in PARTS if not hasattr(policy, part)]
    if missing:
        raise UsageError(
            f"policy.kind = {name!r}: lacks {', '.join(missing)} (see esd.policies.base.Policy), "
            "and is not a torch.nn.Module"
        )
    return policy
