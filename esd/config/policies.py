"""[policy]: the kind, and beside it the settings of that kind, which stand in the kind's own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esd.config.fields import setting
from esd.config.kinds import POLICIES
from esd.errors import UsageError, nearest, shown

DEFAULT_KIND = "hebbian"
YOUR_OWN = "module:Class"  # how messages and lists name a kind that is a class of the user's


@dataclass(frozen=True)
class ModuleSettings:
    """[policy] kind = "module:Class": a user's policy, or a torch.nn.Module (the slower path).

    Reading a config imports nothing of the user's. So keys that the class may have declared are kept as they are, and
    checked when the policy is built.

    Attributes:
        own: the other keys of [policy], as TOML has them.
    """

    kwargs: dict[str, Any] = setting({}, "Keyword arguments of the class")
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _default_settings() -> Any:
    return POLICIES.find(DEFAULT_KIND).settings()


@dataclass(frozen=True)
class PolicyConfig:
    """[policy]: ``kind`` and, flat beside it, the settings of that kind, a dataclass."""

    kind: str = DEFAULT_KIND
    settings: Any = dataclasses.field(default_factory=_default_settings)


def settings_of_kind(kind: Any) -> type[Any]:
    """The dataclass of what [policy] may hold with a kind; ``ModuleSettings`` if a class has to be asked for it.

    Raises:
        UsageError: if there is no such kind.
    """
    if isinstance(kind, str) and ":" in kind:
        return ModuleSettings
    if not isinstance(kind, str) or kind not in POLICIES.names():
        raise UsageError(
            f"policy.kind = {shown(kind)}: {nearest(shown(kind), [*POLICIES.names(), YOUR_OWN])}"
        )
    found = POLICIES.find(kind)
    # an installed package may offer a class, too
    settings: type[Any] = ModuleSettings if isinstance(found, type) else found.settings
    return settings
