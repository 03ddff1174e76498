"""``module:Name`` in a config: the user's own policies, wrappers and environments."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from esd.errors import MissingPackageError, UsageError, missing_module, nearest


def make_working_directory_importable() -> None:
    """Put the working directory on ``sys.path``, which a console script doesn't have, so that every rank finds it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def import_name(reference: str, what: str) -> Any:
    """Import ``module:Name``.

    Args:
        reference: as written in the config.
        what: the key it stands under, for messages.

    Raises:
        UsageError: if the module or the name in it can't be imported; ``MissingPackageError`` if that is because an
            optional package isn't installed.
    """
    module_name, _, name = reference.partition(":")
    make_working_directory_importable()
    try:
        module = importlib.import_module(module_name)
        found = hasattr(module, name)  # a module may import what it is asked for only now
    except ImportError as error:
        if (missing := missing_module(error)) is not None:
            raise MissingPackageError(f"{what} = {reference!r}", missing) from error
        raise UsageError(
            f"{what} = {reference!r}: module {module_name!r} can't be imported ({error}); "
            f"it is looked for in the working directory {Path.cwd()} and the installed packages"
        ) from error
    if not found:
        public = getattr(module, "__all__", None) or [
            key for key in vars(module) if not key.startswith("_")
        ]
        raise UsageError(f"{what} = {reference!r}: no {name!r} in it, {nearest(name, public)}")
    return getattr(module, name)
