"""The words that start another process of this Python, which takes no module from the working directory.

``python -c`` and ``python -m`` look for every module in the working directory first. A folder from elsewhere could
bring an ``mpi4py.py`` or an ``esd.py``, which ``esd doctor`` or ``esd launch`` would run. What a run may import from
there is looked for when it is imported (``make_working_directory_importable``).
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePath

SOURCES = Path(__file__).parent.parent.parent  # the folder that holds esd


def with_library(code: str) -> list[str]:
    """Run a code that imports installed packages alone.

    Args:
        code: as ``python -c`` takes it.
    """
    return [sys.executable, "-P", "-c", code]


def with_esd(code: str) -> list[str]:
    """Run a code that imports esd, from where this process has it.

    Args:
        code: as ``python -c`` takes it.
    """
    path = [entry for entry in (*sys.path, str(SOURCES)) if entry]
    return with_library(f"import sys; sys.path[:] = {list(dict.fromkeys(path))!r}\n{code}")


def esd_command(python: str, directory: PurePath) -> list[str]:
    """``esd`` by a Python of one's choice.

    Args:
        python: the interpreter.
        directory: where it is started. Only in the folder with esd's own sources that is where esd is looked for.
    """
    return [python, *(() if directory == SOURCES else ("-P",)), "-m", "esd"]
