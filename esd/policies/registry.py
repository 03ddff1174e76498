"""From [policy] in a config to a policy object."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import sys
from pathlib import Path
from typing import Any

from esd.config.keywords import fresh
from esd.config.kinds import POLICIES
from esd.config.plugins import in_one_line, is_of_the_users_code, users_code
from esd.config.policies import ModuleSettings, PolicyConfig
from esd.config.settings import FORMAT, Config
from esd.config.tables import parse_settings, to_table
from esd.errors import UsageError, shortened
from esd.policies.base import Interface, Policy
from esd.policies.guard import GuardedPolicy
from esd.policies.kind import NoSettings, PolicyKind, declared_settings

BYTES_PER_COORDINATE = 8  # h_0 and h; an optimizer's vectors and the network's own come on top


def memory_bytes() -> int:
    """The memory of this machine, or of the container that esd is in."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max"
        there = min(there, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return there


def make_policy(config: PolicyConfig, interface: Interface, version: int = FORMAT) -> Policy:
    """Build the policy for an environment; one of the user's own is checked, and stays so (``policies.guard``).

    Args:
        config: [policy].
        interface: what the policy meets.
        version: the run's ``format``.

    Raises:
        UsageError: if a user's class can't be imported, doesn't follow the protocol, or has other settings; if the
            policy doesn't fit into memory.
    """
    kind, settings, kwargs = find_kind(config, version)
    if config.kind not in POLICIES.built_in:
        return _guarded(config.kind, kind, settings, kwargs, interface, version)
    hidden = getattr(settings, "hidden", None)
    than = "" if hidden is None else f" than policy.hidden = {shortened(str(list(hidden)))}"
    try:
        policy = kind.build(interface, settings, **kwargs)
    except (MemoryError, OverflowError, ValueError) as error:
        if not isinstance(error, MemoryError) and not re.search(
            "too (big|large)|dimension", str(error)
        ):
            raise
        raise UsageError(
            f"policy.kind = {config.kind!r}: does not fit into memory ({shortened(str(error), 200)}); use smaller "
            f"layers{than}"
        ) from error
    needed, there = BYTES_PER_COORDINATE * policy.layout.size, memory_bytes()
    if needed > there:  # before it is touched: the system would kill the process instead
        raise UsageError(
            f"policy.kind = {config.kind!r}: has {policy.layout.size:,} parameters, which need {needed / 1e6:,.0f} MB "
            f"at least, but there are {there / 1e6:,.0f} MB of memory; use smaller layers{than}"
        )
    return policy


def _guarded(
    name: str,
    kind: PolicyKind,
    settings: Any,
    kwargs: dict[str, Any],
    interface: Interface,
    version: int,
) -> Policy:
    """Build a user's policy and check it."""
    who = _who(name)
    try:
        own = kind.build(interface, settings, **kwargs)
    except TypeError as error:  # mostly the arguments
        given = f"policy.kwargs = {kwargs}"
        if not isinstance(settings, NoSettings):
            given += f" and settings {_as_dict(settings)}"
        raise UsageError(
            f"{who}: can't be built with {shortened(given, 300)} ({in_one_line(error).removeprefix('TypeError: ')})"
        ) from error
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        raise UsageError(f"{who}: building it raised {in_one_line(error)}") from error
    if _is_torch_module(own):
        raise UsageError(
            f"{who}: returned a torch.nn.Module; name the module's class itself, which is built as "
            "Class(observation_size, action_size, **policy.kwargs)"
        )
    return GuardedPolicy(own, who, interface, version)


def find_kind(
    config: PolicyConfig, version: int = FORMAT
) -> tuple[PolicyKind, Any, dict[str, Any]]:
    """What a config's kind is, its settings, and keyword arguments of its builder.

    Raises:
        UsageError: if the kind can't be imported, or has no such settings.
    """
    found = POLICIES.find(config.kind)
    kind = found if isinstance(found, PolicyKind) else _kind_of_class(config.kind, found, version)
    if not callable(kind.build) or not (
        isinstance(kind.settings, type) and dataclasses.is_dataclass(kind.settings)
    ):
        raise UsageError(
            f"{_who(config.kind)}: is not a complete PolicyKind; expected a settings dataclass and a function that "
            "builds it (esd.policies.kind.PolicyKind)"
        )
    if not isinstance(config.settings, ModuleSettings):
        return kind, config.settings, {}
    own, kwargs = dict(config.settings.own), fresh(config.settings.kwargs)
    if kwargs and not kind.takes_kwargs:  # no key of its settings, and so told to be unknown
        own["kwargs"] = kwargs
    known = ("kwargs",) if kind.takes_kwargs else ()
    with users_code(_who(config.kind), f"reading its settings {kind.settings.__name__}"):
        settings = parse_settings(kind.settings, own, "policy", _who(config.kind), known)
    return kind, settings, kwargs


def with_own_defaults(config: Config, like: Config | None = None) -> Config:
    """A config with the defaults of what a user's policy declares, so that a run keeps them when the class changes.

    Args:
        config: to be completed.
        like: a run's; only what that one has, too, is added, as a run of an earlier version has no defaults.

    Raises:
        UsageError: as ``find_kind``.
    """
    given = config.policy.settings
    if not isinstance(given, ModuleSettings):
        return config
    wanted = None if like is None else getattr(like.policy.settings, "own", {}).keys() - given.own
    if wanted is not None and not wanted:
        return config  # nothing of the user's has to be imported
    declared = to_table(find_kind(config.policy, config.format)[1])
    added = {key: declared[key] for key in declared if wanted is None or key in wanted}
    settings = dataclasses.replace(given, own={**added, **given.own})
    return dataclasses.replace(config, policy=dataclasses.replace(config.policy, settings=settings))


def _who(name: str) -> str:
    return f"policy.kind = {shortened(repr(name))}"


def _kind_of_class(name: str, policy_class: Any, version: int) -> PolicyKind:
    """The kind that is a class of the user's: a torch.nn.Module, or anything that follows ``base.Policy``."""
    who = _who(name)
    if _is_torch_module(policy_class):
        raise UsageError(
            f"{who}: is an object of {type(policy_class).__name__}, expected the class"
        )
    if not callable(policy_class):
        raise UsageError(
            f"{who}: is a {type(policy_class).__name__}, expected a class or a PolicyKind"
        )
    torch = sys.modules.get("torch")  # whoever wrote an nn.Module has imported it by now
    is_module = (
        torch is not None
        and isinstance(policy_class, type)
        and issubclass(policy_class, torch.nn.Module)
    )
    with users_code(who, "reading its attributes"):
        return PolicyKind(
            declared_settings(policy_class),
            functools.partial(_build_class, who, policy_class, is_module, version),
            lockstep=getattr(
                policy_class, "lockstep", "esd.lockstep.policies:module" if is_module else None
            ),
            same_bits=getattr(policy_class, "same_bits", False) is True,
            takes_kwargs=True,
        )


def _is_torch_module(value: Any) -> bool:
    """Whether something is a module of torch's, not its class."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _build_class(
    who: str,
    policy_class: Any,
    is_module: bool,
    version: int,
    interface: Interface,
    settings: Any,
    **kwargs: Any,
) -> Policy:
    """An object of a user's class, which gets its settings only if it declares some."""
    declared = () if isinstance(settings, NoSettings) else (settings,)
    if is_module:
        from esd.policies.torch_module import TorchPolicy

        return TorchPolicy(policy_class, interface, kwargs, declared, who, version)
    policy: Policy = policy_class(interface, *declared, **kwargs)
    return policy


def _as_dict(settings: Any) -> Any:
    return dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings  # type: ignore[arg-type]
