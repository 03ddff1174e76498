"""Every setting with its text and default, for ``esd list settings``."""

from __future__ import annotations

import dataclasses
from typing import Any

from esd.config.kinds import ALGORITHMS, OPTIMIZERS, POLICIES
from esd.config.objective import ObjectiveConfig, ParameterConfig
from esd.config.policies import YOUR_OWN, ModuleSettings, settings_of_kind
from esd.config.settings import (
    Config,
    EnvironmentConfig,
    EvolutionSettings,
    RunConfig,
    VariantsConfig,
)
from esd.config.tables import settings_of_algorithm
from esd.errors import UsageError


def describe_settings() -> dict[str, str]:
    """Every setting by its dotted name, with its text and default."""
    described: dict[str, str] = {}
    shared_fields = dataclasses.fields(EvolutionSettings)

    def describe(cls: type[Any], prefix: str) -> None:
        for field in dataclasses.fields(cls):
            shared = issubclass(cls, EvolutionSettings) and field in shared_fields
            if "text" in field.metadata and (cls is EvolutionSettings or not shared):
                expected = field.metadata["expected"]
                default = field.default
                if default is dataclasses.MISSING:
                    default = {}
                described[prefix + field.name] = (
                    f"{field.metadata['text']}{f' ({expected})' if expected else ''} [default: {_default(default)}]"
                )

    describe(Config, "")
    for section, cls in (
        ("objective", ObjectiveConfig),
        ("objective.parameters.<name>", ParameterConfig),
        ("env", EnvironmentConfig),
        ("variants", VariantsConfig),
        ("run", RunConfig),
    ):
        describe(cls, f"{section}.")
    describe(EvolutionSettings, "es.")
    for prefix, kinds, settings_of in (
        ("es", ALGORITHMS, _of_algorithm),
        ("es", OPTIMIZERS, _of_optimizer),
        ("policy", POLICIES, settings_of_kind),
    ):
        for name in kinds.names():
            try:
                describe(settings_of(name), f"{prefix}.<{name}>.")
            except UsageError as error:  # an installed package is broken; the others are not
                described[f"{prefix}.<{name}>"] = str(error)
    describe(ModuleSettings, f"policy.<{YOUR_OWN}>.")
    return described


def _of_algorithm(name: str) -> type[Any]:
    return settings_of_algorithm({"algorithm": name})


def _of_optimizer(name: str) -> type[Any]:
    """Only what is not a setting of the algorithms already has a text."""
    optimizer: Any = OPTIMIZERS.find(name)
    if isinstance(optimizer, type) and dataclasses.is_dataclass(optimizer):
        return optimizer
    return _NoSettings


@dataclasses.dataclass(frozen=True)
class _NoSettings:
    """Of an optimizer that has none."""


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
