"""Every setting with its text and default, for ``esd list settings``."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from esd.config.algorithms import settings_of_algorithm
from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES
from esd.config.objective import ObjectiveConfig, ParameterConfig
from esd.config.policies import DEFAULT_KIND, YOUR_OWN, ModuleSettings, settings_of_kind
from esd.config.settings import (
    Config,
    EnvironmentConfig,
    EvolutionSettings,
    RunConfig,
    VariantsConfig,
)
from esd.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Described:
    """A setting as a user reads of it.

    Attributes:
        text: what it is, what is expected and its default; or why it is not known.
        default: as TOML writes it; "unset" where there is none.
        choices: the values that it may have, if those are words.
    """

    text: str
    default: str = ""
    choices: tuple[str, ...] = ()


def describe_settings() -> dict[str, str]:
    """Every setting by its dotted name, with its text and default."""
    return {name: described.text for name, described in described_settings().items()}


def described_settings() -> dict[str, Described]:
    """Every setting by its dotted name; those of one kind as ``policy.<gru>.units``."""
    described: dict[str, Described] = {}
    shared_fields = dataclasses.fields(EvolutionSettings)

    def describe(cls: type[Any], prefix: str) -> None:
        for field in dataclasses.fields(cls):
            shared = issubclass(cls, EvolutionSettings) and field in shared_fields
            if "text" in field.metadata and (cls is EvolutionSettings or not shared):
                described[prefix + field.name] = _described(field)

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
    described["policy.kind"] = Described(
        f"Kind of policy (esd list policies), or {YOUR_OWN} [default: {DEFAULT_KIND}]", DEFAULT_KIND
    )
    for prefix, kinds, settings_of in (
        ("es", ALGORITHMS, _of_algorithm),
        ("es", OPTIMIZERS, _of_optimizer),
        ("policy", POLICIES, settings_of_kind),
    ):
        for name in kinds.names():
            try:
                describe(settings_of(name), f"{prefix}.<{name}>.")
            except UsageError as error:  # an installed package is broken; the others are not
                described[f"{prefix}.<{name}>"] = Described(str(error))
    describe(ModuleSettings, f"policy.<{YOUR_OWN}>.")
    return {
        name: dataclasses.replace(setting, choices=setting.choices or _names_for(name))
        for name, setting in described.items()
    }


@functools.cache
def settings_by_key() -> dict[str, Described]:
    """All settings by the key that ``--set`` takes: es.<pgpe>.learning_rate is written es.learning_rate."""
    flat: dict[str, Described] = {}
    for name, described in described_settings().items():
        key = re.sub(r"<[^.]*>\.", "", name)
        if "<" not in key and not key.startswith("objective.parameters."):
            flat.setdefault(key, described)
    return flat


def _described(field: dataclasses.Field[Any]) -> Described:
    """One field."""
    expected = field.metadata["expected"]
    default = _default({} if field.default is dataclasses.MISSING else field.default)
    text = f"{field.metadata['text']}{f' ({expected})' if expected else ''} [default: {default}]"
    choices = field.metadata["choices"]
    if isinstance(field.default, bool):
        choices = ("true", "false")
    return Described(text, default, choices)


def _names_for(setting: str) -> tuple[str, ...]:
    """The names that a setting may have which names a kind."""
    name = re.sub(r"<.*?>\.", "", setting)
    tables = (ALGORITHMS, OPTIMIZERS, POLICIES, OBJECTIVES)
    return next((tuple(kinds.names()) for kinds in tables if kinds.setting == name), ())


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
