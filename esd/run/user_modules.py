"""The user's own code that this process has imported: every module by the sha256 of its file.

Own are modules that are neither esd's, nor Python's, nor an installed package's: what lies in the working directory, on
``PYTHONPATH``, or is installed for editing. Installed packages have versions instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path

OURS = ("esd", "esd_envs", "esd_kernels")
INSTALLED = ("site-packages", "dist-packages")
MOST_MODULES = 1000
MOST_BYTES = 64 * 1024 * 1024  # of a compiled extension, say
MAIN = "__main__"  # the program that calls esd's API, if it isn't named in the settings
SAME_AS_MAIN = "__mp_main__"  # multiprocessing's second name of it

Modules = dict[str, dict[str, str]]


def own_modules(named: Collection[str] = ()) -> Modules:
    """The modules of the user's own, by name: ``file``, relative to the working directory if it lies there, ``sha256``.

    Args:
        named: modules that the settings name; ``__main__`` counts only if it is one of them.
    """
    found: Modules = {}
    try:
        here = f"{Path.cwd()}{os.sep}"
    except OSError:  # removed meanwhile
        here = os.sep
    for name, file in _files(named):
        if len(found) >= MOST_MODULES:
            break
        digest = _imported(name, file)
        if digest:
            found[name] = {"file": file.removeprefix(here), "sha256": digest}
    return dict(sorted(found.items()))


def outdated(modules: Modules) -> list[str]:
    """The files of modules, as ``own_modules`` gives them, that have changed since this process imported them."""
    return [
        own["file"] for own in modules.values() if _sha256(own["file"]) not in ("", own["sha256"])
    ]


# by name, the spec that it was imported by (a reload sets a new one) and the sha256 of its file when it was first seen
_SEEN: dict[str, tuple[object, str]] = {}


def _imported(name: str, file: str) -> str:
    """The sha256 of the file that a module was imported from; of a file that is edited later that is the one before."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    seen = _SEEN.get(name)
    if seen is None or seen[0] is not spec:
        seen = _SEEN[name] = (spec, _sha256(file))
    return seen[1]


def _files(named: Collection[str]) -> Iterator[tuple[str, str]]:
    """The modules of the user's own and their files."""
    paths = sysconfig.get_paths()
    python = tuple(f"{paths[key]}{os.sep}" for key in ("stdlib", "platstdlib", "scripts"))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name.partition(".")[0] in OURS:
            continue
        if name == SAME_AS_MAIN or (name == MAIN and MAIN not in named):
            continue
        with contextlib.suppress(OSError):
            file = str(Path(file).absolute())
        if not file.startswith(python) and not any(part in INSTALLED for part in Path(file).parts):
            yield name, file


def _sha256(file: str) -> str:
    """Of a regular file; empty if it can't be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
                return ""
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""
