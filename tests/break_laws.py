"""Break each law on purpose, in a copy of the project, and see its test fail: ``python -m tests.break_laws``.

A test that can't fail holds no law. Takes a few minutes; ends with 1 if a break went unnoticed. ``python -m
tests.break_laws WORD…`` tries only those whose text, file or test contains one of the words.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.law_breaks import BREAKS, Break

REPOSITORY = Path(__file__).parent.parent
SHOWN = 3000  # characters of what a test printed that are shown of a break that went unnoticed
MPIRUN = str(Path(sys.executable).parent / "mpirun")


def noticed(case: Break, copy: Path) -> tuple[bool, str]:
    """Whether the test fails in a copy with the break, and what it printed. The copy is as it was afterwards."""
    path = copy / case.file
    text, stat = path.read_text("utf-8"), path.stat()
    path.write_text(text.replace(case.old, case.new), "utf-8")
    try:
        return failed(case, copy)
    finally:
        path.write_text(text, "utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # Python compares it


def failed(case: Break, copy: Path) -> tuple[bool, str]:
    """Whether a break's test fails in a copy, having passed nothing but collection before, and what it printed."""
    # pytest removes old folders of its kind, also those of another one that starts just now
    files = copy.parent / f"{copy.name}-files"
    files.mkdir(exist_ok=True)
    head, _, expression = case.test.partition(" -k ")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *head.split()]
    words += ["-k", expression] if expression else []
    if case.ranks:
        words = [MPIRUN, "--oversubscribe", "-n", str(case.ranks), *words, "--with-mpi"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'envs'}",
        "NUMBA_CACHE_DIR": "",
        "PYTEST_DEBUG_TEMPROOT": str(files),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    result = subprocess.run(
        words, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    good = "failed" in result.stdout and result.returncode != 0
    return good, f"{result.stdout}{result.stderr}(exit code {result.returncode})"


def chosen(words: list[str]) -> list[Break]:
    """Those that contain any of the words, or all without words."""
    texts = {case: f"{case.why} {case.file} {case.test}".lower() for case in BREAKS}
    wanted = [word.lower() for word in words]
    return [c for c, text in texts.items() if not words or any(word in text for word in wanted)]


def tried(cases: queue.SimpleQueue[Break], copy: Path) -> int:
    """Try breaks, as long as there are some, in a copy of its own; how many went unnoticed.

    The copy has the bytecode and the kernels that are compiled already; a break of kernels is other sources, with a
    folder of their own.
    """
    kept_out = shutil.ignore_patterns(".git", ".venv", "runs", ".*_cache", ".hypothesis")
    shutil.copytree(REPOSITORY, copy, ignore=kept_out)
    unnoticed = 0
    with contextlib.suppress(queue.Empty):
        while True:
            case = cases.get_nowait()
            began = time.monotonic()
            good, printed = noticed(case, copy)
            unnoticed += not good
            verdict = "noticed by" if good else "NOT NOTICED by"
            seconds = f"{time.monotonic() - began:.0f} s"
            told = f"law {case.law}: {case.why}: {verdict} {case.test} ({seconds})"
            print(told if good else f"{told}\n{printed[-SHOWN:]}", flush=True)
    return unnoticed


def main() -> int:
    """Try breaks, two at a time where there are two cores; 0 if all were noticed."""
    command_line = argparse.ArgumentParser(prog="python -m tests.break_laws", description=__doc__)
    command_line.add_argument("words", nargs="*", metavar="WORD")
    words = command_line.parse_args().words
    wanted = chosen(words)
    if not wanted:
        command_line.error(f"no break contains {' or '.join(words)}")
    cases: queue.SimpleQueue[Break] = queue.SimpleQueue()
    for case in wanted:
        cases.put(case)
    at_once = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        copies = [Path(folder) / f"copy-{number}" for number in range(at_once)]
        unnoticed = sum(pool.map(lambda copy: tried(cases, copy), copies))
    print(f"{len(wanted) - unnoticed} of {len(wanted)} breaks were noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main())
