"""``module:Name`` in a config: the user's own policies, wrappers and environments."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from esd.errors import EsdError, MissingPackageError, UsageError, missing_module, nearest

OURS = f"{Path(__file__).parent.parent}{os.sep}"


def make_working_directory_importable() -> None:
    """Put the working directory on ``sys.path``, which a console script doesn't have, so that every rank finds it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def in_one_line(error: BaseException) -> str:
    """An error of the user's code in one line, with its place."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", OURS))
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):  # says its place itself
        where = ""
    return f"{text if len(text) <= 300 else f'{text[:299]}…'}{where}"


def import_failed(what: str, reference: str, error: BaseException) -> UsageError:
    """What is said of a module of the user's that raises while it is imported."""
    return UsageError(f"{what} = {reference!r}: importing it raised {in_one_line(error)}")


def import_name(reference: str, what: str) -> Any:
    """Import ``module:Name``.

    Args:
        reference: as written in the config.
        what: the key it stands under, for messages.

    Raises:
        UsageError: if the module or the name in it can't be imported, or raises meanwhile; ``MissingPackageError`` if
            that is because an optional package isn't installed.
    """
    module_name, _, name = reference.partition(":")
    make_working_directory_importable()
    try:
        with contextlib.chdir("."):  # it may change the directory, and relative paths with it
            module = importlib.import_module(module_name)
            found = hasattr(module, name)  # a module may import what it is asked for only now
    except ImportError as error:
        if (missing := missing_module(error)) is not None:
            raise MissingPackageError(f"{what} = {reference!r}", missing) from error
        raise UsageError(
            f"{what} = {reference!r}: module {module_name!r} can't be imported ({error}); "
            f"it is looked for in the working directory {Path.cwd()} and the installed packages"
        ) from error
    except EsdError:
        raise
    except (Exception, SystemExit) as error:
        raise import_failed(what, reference, error) from error
    if not found:
        public = getattr(module, "__all__", None) or [
            key for key in vars(module) if not key.startswith("_")
        ]
        raise UsageError(f"{what} = {reference!r}: no {name!r} in it, {nearest(name, public)}")
    return getattr(module, name)
