"""What the settings of a run name that may be code or a file: read from tables, before anything is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES

KINDS = {kinds.setting: kinds for kinds in (POLICIES, ALGORITHMS, OPTIMIZERS, OBJECTIVES)}
ENVIRONMENTS = ("env.id", "env.variants.id")
WRAPPERS = ("env.wrappers.id", "env.variants.wrappers.id")
ARGUMENTS = ("kwargs", "reset_options")
INERT = ("env.variants.name", "objective.values")  # names in tables of results
WORDS_OF_FILES = {"path", "file", "filename", "folder", "dir", "directory"}
# "esd/HiddenCartPole-v0" is an environment, though it has a slash
_ENVIRONMENT_ID = re.compile(r"[\w-]+/[\w.-]+-v\d+")


@dataclass(frozen=True, order=True)
class Reference:
    """A text of the settings that names code, or that code may take as the name of something.

    Attributes:
        setting: where it stands, by dotted name and without positions in lists.
        text: as it is written.
    """

    setting: str
    text: str

    @property
    def names_code(self) -> bool:
        """Whether esd itself imports what it names; other texts are arguments of code."""
        return self.setting in (*KINDS, *ENVIRONMENTS, *WRAPPERS)

    @property
    def module(self) -> str:
        """The module that is imported for it; empty if none is, or only one of esd's."""
        if not self.names_code:
            return ""
        kinds = KINDS.get(self.setting)
        if kinds is not None:
            if self.text in kinds.built_in:
                return ""
            if self.text in kinds.installed:
                return kinds.installed[self.text].value.partition(":")[0].strip()
        module, colon, _ = self.text.partition(":")
        return module if colon else ""

    @property
    def may_name_a_file_or_code(self) -> bool:
        """Whether an argument may be a path or a module: what it is given to might open or import it."""
        text = self.text
        if WORDS_OF_FILES & {*self.setting.rpartition(".")[2].lower().split("_")}:
            return True
        if _ENVIRONMENT_ID.fullmatch(text) and not _is_there(text):
            return False
        return any(mark in text for mark in ":/\\~") or ".." in text or _is_there(text)


def _is_there(text: str) -> bool:
    """Whether the working directory has a file of this name."""
    try:
        return bool(text) and os.path.lexists(text)
    except (OSError, ValueError):
        return False


def references_in(table: Mapping[str, Any]) -> list[Reference]:
    """Everything in a run's tables that names code, and all texts that are handed to it.

    Args:
        table: nested, as TOML gives it or ``to_table``; anybody may have written it, so any value may stand anywhere.
    """
    found = {reference for reference in _walk(table, "") if _counts(reference, table)}
    return sorted(found)


def _walk(value: Any, path: str) -> Iterator[Reference]:
    """Every text in nested tables and lists."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item, path)
    elif isinstance(value, str):
        # a wrapper without arguments may be written as its name alone
        yield Reference(f"{path}.id" if path.endswith("wrappers") else path, str(value))


def _counts(reference: Reference, table: Mapping[str, Any]) -> bool:
    """Whether a text names code or is an argument of it; one of esd's own settings is neither."""
    if reference.setting in INERT:
        return False
    if reference.names_code:
        return bool(reference.module)
    section, *keys = reference.setting.split(".")
    return any(key in ARGUMENTS for key in keys) or _is_of_own_kind(section, table)


def _is_of_own_kind(section: str, table: Mapping[str, Any]) -> bool:
    """Whether a section has the settings of somebody else's policy kind, algorithm or optimizer."""
    settings = table.get(section)
    if not isinstance(settings, Mapping):
        return False
    named = [(name.partition("."), kinds) for name, kinds in KINDS.items()]
    return any(
        isinstance(settings.get(key), str) and settings[key] not in kinds.built_in
        for (of, _, key), kinds in named
        if of == section and section != "objective"
    )
