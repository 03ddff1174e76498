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
    for algorithm in ALGORITHMS.names():
        describe(ALGORITHMS.find(algorithm).settings, f"es.<{algorithm}>.")
    for optimizer in OPTIMIZERS.names():
        if dataclasses.is_dataclass(cls := OPTIMIZERS.find(optimizer)):
            describe(cls, f"es.<{optimizer}>.")  # what is not a setting of the algorithm already
    for kind in POLICIES.names():
        describe(settings_of_kind(kind), f"policy.<{kind}>.")
    describe(ModuleSettings, f"policy.<{YOUR_OWN}>.")
    return described


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
