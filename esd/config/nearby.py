"""Where a module lies that Python does not find: beside an experiment's file, or above a run. Only for hints."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

from esd.errors import shortened

MOST_PLACES = 8
MOST_PARENTS = 6

_places: list[Path] = []  # what this process has read lately, the newest first


def look_near(path: Path) -> None:
    """Let messages name modules beside a file or a folder, and above it, that a command has named."""
    with contextlib.suppress(OSError, ValueError):
        place = path.absolute()
        _places[:] = [place, *(other for other in _places if other != place)][:MOST_PLACES]


def where_it_lies(module: str) -> str:
    """A hint if a module that is not found lies in the folder of something that a command has named; empty if not."""
    top = module.partition(".")[0]
    if not top.isidentifier():
        return ""
    with contextlib.suppress(OSError, ValueError):
        here = Path.cwd()
        for place in _places:
            for folder in (place, *list(place.parents)[:MOST_PARENTS]):
                file = next(
                    (f for f in (f"{top}.py", f"{top}/__init__.py") if (folder / f).is_file()), ""
                )
                if file and folder.resolve() != here.resolve():
                    shown = os.path.relpath(folder, here)
                    named = str(folder) if shown.startswith("..") else shown
                    quoted = shortened(shlex.quote(named), 200)
                    return f"{file} lies in {quoted}: run the command there (cd {quoted}) or set PYTHONPATH={quoted}"
    return ""
