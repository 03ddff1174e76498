"""Every setting with its text and default, for ``esd list settings``."""

from __future__ import annotations

import dataclasses
from typing import Any

from esd.config.kinds import ALGORITHMS
from esd.config.objective import ObjectiveConfig, ParameterConfig
from esd.config.policies import POLICY_KINDS, ModuleConfig
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
    for kind, settings in {**POLICY_KINDS, "module:Class": ModuleConfig}.items():
        describe(settings, f"policy.<{kind}>.")
    return described


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
