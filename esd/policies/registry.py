"""From [policy] in a config to a policy object."""

from __future__ import annotations

import sys

from esd.config.plugins import import_name
from esd.config.policies import (
    GruConfig,
    HebbianConfig,
    ModuleConfig,
    PolicyConfig,
    ReformerConfig,
    StaticConfig,
)
from esd.errors import UsageError
from esd.policies.base import Interface, Policy


def make_policy(config: PolicyConfig, interface: Interface) -> Policy:
    """Build the policy for an environment.

    Raises:
        UsageError: if a user's class can't be imported or doesn't follow the protocol.
    """
    settings = config.settings
    if isinstance(settings, ModuleConfig):
        return _user_policy(config.kind, settings, interface)
    if isinstance(settings, ReformerConfig):
        from esd.policies.reformer import ReformerPolicy

        return ReformerPolicy(interface, settings)
    if isinstance(settings, GruConfig):
        from esd.policies.gru import GruPolicy

        return GruPolicy(interface, settings)
    if settings.convolutions:
        from esd.policies.convolutional import ConvolutionalPolicy

        return ConvolutionalPolicy(interface, lambda seen: _perceptron(settings, seen))
    return _perceptron(settings, interface)


def _perceptron(settings: HebbianConfig | StaticConfig, interface: Interface) -> Policy:
    """One of the two built-in kinds."""
    if isinstance(settings, HebbianConfig):
        from esd.policies.hebbian import HebbianPolicy

        return HebbianPolicy(interface, settings)
    from esd.policies.static import StaticPolicy

    return StaticPolicy(interface, settings)


def _user_policy(kind: str, settings: ModuleConfig, interface: Interface) -> Policy:
    """A class named by ``module:Class``: a torch.nn.Module, or anything that follows ``base.Policy``."""
    policy_class = import_name(kind, "policy.kind")
    torch = sys.modules.get("torch")  # whoever wrote an nn.Module has imported it by now
    try:
        if torch is not None and issubclass(policy_class, torch.nn.Module):
            from esd.policies.torch_module import TorchPolicy

            policy: Policy = TorchPolicy(policy_class, interface, settings.kwargs)
        else:
            policy = policy_class(interface, **settings.kwargs)
    except TypeError as error:
        raise UsageError(
            f"policy.kind = {kind!r}: can't be built with policy.kwargs = {settings.kwargs} ({error})"
        ) from error
    missing = [
        name
        for name in ("layout", "squashed", "initial_parameters", "load", "reset", "act")
        if not hasattr(policy, name)
    ]
    if missing:
        raise UsageError(
            f"policy.kind = {kind!r}: lacks {', '.join(missing)} (see esd.policies.base.Policy), "
            "and is not a torch.nn.Module"
        )
    return policy
