"""Whether a run's config.toml is still the one that it was started with: the journal knows its hash.

A config that was changed by hand would let everything that reads a run give wrong numbers: another optimizer rebuilds
another h from the same journal.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from esd.config.identity import identity, identity_of, settings_of_h
from esd.config.settings import Config
from esd.errors import UsageError, shortened, shown
from esd.reading import read_json
from esd.run import journal
from esd.run.journal import DamagedJournalError

LONGEST_PROVENANCE = 1 << 26
MOST_DIFFERENCES = 3  # named in the message
LONGEST_VALUE = 60


def check_unchanged(
    config: Config, config_file: Path, journal_file: Path, provenance_file: Path
) -> None:
    """Compare a config with the run's journal, if there is one.

    Args:
        config: as read from ``config_file``.
        config_file: for messages.
        journal_file: its header has the hash of the settings that the run was started with.
        provenance_file: has these settings themselves, for messages.

    Raises:
        UsageError: if they differ, naming the settings where they are known; or if the journal can't be read.
    """
    begun = _identity_of_journal(journal_file)
    if begun is None or begun == identity(config):
        return
    stored = _settings_of(provenance_file, begun)
    if stored is None:
        advice = "restore this file from a copy, or undo the change"
        raise UsageError(
            f"{config_file}: is not the config of this run (its hash in {journal_file.name} is another one); "
            f"{advice}"
        )
    now = settings_of_h(config)
    differences = [
        f"{shortened(key, LONGEST_VALUE)} = {_value(now, key)} was {_value(stored, key)}"
        for key in sorted({*now, *stored})
        if now.get(key) != stored.get(key)
    ]
    more = len(differences) - MOST_DIFFERENCES
    named = "; ".join(differences[:MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
    raise UsageError(
        f"{config_file}: is not the config of this run: {named}. Undo the change; to train with other settings, "
        "start a new run"
    )


def _value(settings: dict[str, Any], key: str) -> str:
    if key == "format":  # the first one has no such setting
        return str(settings.get(key, 1))
    return shortened(shown(settings[key]), LONGEST_VALUE) if key in settings else "not set"


def _identity_of_journal(path: Path) -> str | None:
    """The hash of the settings that a run was started with, from the head of its journal; None without a whole one."""
    if not os.path.lexists(path):
        return None
    try:
        return journal.decode_head(journal.read_head(path), path).identity
    except (
        DamagedJournalError
    ):  # which is said with what can be done when the journal itself is read
        return None


def _settings_of(provenance_file: Path, begun: str) -> dict[str, Any] | None:
    """The settings with a hash, from a run's provenance; None if they are not in it, or it can't be read."""
    try:
        calls = read_json(provenance_file, LONGEST_PROVENANCE)
        settings: dict[str, Any] = calls[0]["settings_of_h"]
        return settings if identity_of(settings) == begun else None
    except (OSError, UsageError, ValueError, LookupError, TypeError, RecursionError):
        return None
