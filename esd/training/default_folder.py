"""Where a run lies if the user names no folder: a pure function of the experiment and of what ``--set`` changes in it.

The same command finds the same folder again, and two points of a sweep never share one:
``runs/cartpole-s0``, ``runs/cartpole-es.sigma=0.05-s0``. The seed stands last, so ``runs/cartpole-s[0-9]*`` and
``runs/cartpole-es.sigma=0.05-s*`` are the runs of one kind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esd.config.identity import differences_that_matter, settings_of_h
from esd.config.settings import Config
from esd.config.tables import apply_settings, flatten
from esd.errors import UsageError
from esd.run.folder import RunFolder
from esd.run.trust import Trust

LONGEST_VALUE = 24
LONGEST = 100  # of all settings together; a file's name has at most 255 bytes
HASH_DIGITS = 8
UNSAFE = re.compile(r"[^A-Za-z0-9._+=-]+")


def default_folder(
    name: str, before: Config | None, config: Config, settings: Sequence[str]
) -> Path:
    """The folder of a new run, or of the one that the same command has begun.

    Args:
        name: of the experiment.
        before: the experiment's config; None if it is none without ``settings``.
        config: the same with ``settings``.
        settings: ``key=value`` texts, as given by ``--set``.
    """
    plain = Path("runs") / f"{name}-s{config.seed}"
    changed = changed_settings(before, config, settings)
    if not changed or _holds(plain, config):  # esd named all runs so before settings were in names
        return plain
    return Path("runs") / f"{name}-{described(changed)}-s{config.seed}"


def changed_settings(
    before: Config | None, config: Config, settings: Sequence[str]
) -> dict[str, Any]:
    """What ``--set`` changes of the settings that h depends on, but for the seed; by name, sorted."""
    named = flatten(apply_settings({}, settings))
    old = {} if before is None else settings_of_h(before)
    new = settings_of_h(config)
    return {
        key: new[key]
        for key in sorted(new)
        if key != "seed"
        and old.get(key) != new[key]
        and any(key == name or _is_part_of(key, name) or _is_part_of(name, key) for name in named)
    }


def _is_part_of(key: str, table: str) -> bool:
    return key.startswith(f"{table}.")


def described(changed: dict[str, Any]) -> str:
    """Settings as a part of a folder's name: readable where they are short, and always distinct."""
    texts = {key: _readable(value) for key, value in changed.items()}
    text = "-".join(f"{key}={value}" for key, value in texts.items())
    exact = all(texts[key] == _plain(value) for key, value in changed.items())
    if exact and len(text) <= LONGEST and not UNSAFE.search(text):
        return text
    whole = json.dumps(changed, sort_keys=True, default=str)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:HASH_DIGITS]
    return f"{UNSAFE.sub('_', text)[:LONGEST].rstrip('-')}-{digest}"


def _plain(value: Any) -> str:
    """A value as text, whatever is in it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
        return "_".join(map(str, value))
    return value if isinstance(value, str) else str(value)


def _readable(value: Any) -> str:
    """The same, of safe characters and not long."""
    return UNSAFE.sub("_", _plain(value))[:LONGEST_VALUE]


def _holds(path: Path, config: Config) -> bool:
    """Whether a folder holds a run with the same settings."""
    folder = RunFolder(path, Trust.NEVER)  # only to be compared
    try:
        if not folder.is_run:
            return False
        stored = folder.config()
    except UsageError:  # damaged: what asks for that run by its name will say so
        return False
    return not differences_that_matter(stored, dataclasses.replace(config, format=stored.format))
