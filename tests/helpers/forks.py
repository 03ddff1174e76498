"""Commands of ``esd`` as forks of one process that has imported it: a call takes a tenth of a start's processor time.

    python -m tests.helpers.forks

reads calls from stdin, a JSON object a line, and writes the exit code of each. A fork has a working directory, standard
streams and variables of its own, and ends as every process does.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


class Forks:
    """The process that forks, for as long as this one lives.

    Args:
        environment: its variables.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=REPOSITORY, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, words: list[str], cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Call ``esd`` with these words in a folder, and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder, "stdout"), Path(folder, "stderr")
            call = {
                "words": words,
                "cwd": str(cwd),
                "environment": dict(environment),
                "streams": [os.devnull, str(output), str(errors)],
            }
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(
                words, code, output.read_text("utf-8"), errors.read_text("utf-8")
            )

    def end(self) -> None:
        """Kill it, and the fork that it waits for."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def run_forked(
    words: list[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Call ``esd`` in a fork of the one process for all calls, which is started by the first."""
    forks = _started(environment["PYTHONPATH"])
    try:
        return forks.run(words, cwd, environment)
    except BaseException:  # such as a test's time limit
        _started.cache_clear()
        forks.end()
        raise


@functools.cache
def _started(path: str) -> Forks:
    return Forks({**os.environ, "PYTHONPATH": path})


def become(words: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    """Make a fork what a new process would be."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(streams):
        stream = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(stream, number)
        os.close(stream)
    sys.argv = [str(REPOSITORY / "esd" / "__main__.py"), *words]


def main() -> None:
    """Import what most commands need; then fork for every call, one at a time."""
    from esd.__main__ import main as call
    from esd.commands.running import use_one_thread

    with contextlib.suppress(ValueError):
        sys.path.remove(str(REPOSITORY))  # the working directory; it is also on PYTHONPATH
    use_one_thread()
    for module in ("esd.cli", "esd.evaluation.test_episodes", "esd.training.prepare"):
        importlib.import_module(module)
    from esd.evolution.noise import Noise

    Noise("gaussian", 0).epsilon(0, 0, 0, 1)  # numba's own start, and a kernel
    gc.freeze()  # so that forks don't look through it, and copy it
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(**json.loads(line))
            call()
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
