"""Jobs that can be broken: started with a mark, found by it, waited for with a deadline, and looked at afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.shell import command, environment, messages

MARK = "ESD_FAULTS_JOB"  # an environment variable that every process of a job inherits
HANG_SECONDS = 90.0  # a job that is still there then is called a hang, and killed
ORPHAN_SECONDS = 20.0  # after mpirun's death ranks live on until MPI_Init notices it
COMPILING = f"esd-{os.getuid()}-compiling"  # the locks of compiled kernels, which are meant to stay
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Ended:
    """What became of a job.

    Attributes:
        code: its exit code, as a shell has it: 137 for SIGKILL; None if it had to be killed at the deadline.
        seconds: from ``since`` to its end.
        output: of stdout.
        errors: of stderr.
        gone_after: seconds from its end until its last process was gone.
        orphans: the processes that were still there ``ORPHAN_SECONDS`` after it, or at the deadline.
        leftovers: files in /dev/shm and in the folder for temporary files, but for what is meant to stay.
    """

    code: int | None
    seconds: float
    output: str
    errors: str
    gone_after: float
    orphans: tuple[str, ...]
    leftovers: tuple[str, ...]

    @property
    def how(self) -> str:
        """In a word, for a table."""
        return "HANG" if self.code is None else f"exit {self.code}"

    @property
    def last_line(self) -> str:
        """Of what it said on stderr, but for what mpirun itself says."""
        own = list(messages(self.errors.splitlines()))
        lines = own or self.errors.strip().splitlines() or [""]
        return lines[-1]

    def wrong(self) -> list[str]:
        """What no fault excuses."""
        found = []
        if self.code is None:
            found.append(f"still running after {self.seconds:.0f} s: {', '.join(self.orphans)}")
        elif self.orphans:
            found.append(f"processes left behind: {', '.join(self.orphans)}")
        if "Traceback (most recent call last)" in self.errors:
            found.append(f"a traceback: {self.errors.strip().splitlines()[-1]}")
        return found


class Job:
    """A call of ``esd``, alone or under mpirun.

    Its temporary files and its segments of shared memory are in folders of its own, so that what it leaves is known
    from what others leave.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        ranks: int = 0,
        module: tuple[str, ...] = ("esd",),
        **variables: str,
    ) -> None:
        """Start it.

        Args:
            arguments: of esd.
            cwd: its working directory.
            ranks: under mpirun; 0 for a process alone.
            module: what ``python -m`` runs in the place of esd, with its own first arguments.
            variables: of its environment.
        """
        self.ranks = ranks
        self._mark = uuid.uuid4().hex
        self._files = cwd / f".job-{self._mark}"
        self.segments = SHARED_MEMORY / f"esd-faults-{self._mark}"
        for folder in (self._files, self.segments):
            folder.mkdir()
        own = {
            MARK: self._mark,
            "TMPDIR": str(self._files),
            "OMPI_MCA_btl_sm_backing_directory": str(self.segments),
        }
        words = command(*arguments, ranks=ranks)
        position = words.index("-m") + 1
        words[position : position + 1] = module
        self.began = time.monotonic()
        _unfinished.append(self)
        with (cwd / f".{self._mark}.out").open("wb") as out, self._errors.open("wb") as err:
            self.process = subprocess.Popen(
                words, cwd=cwd, env=environment(**own, **variables), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )  # fmt: skip

    @property
    def _errors(self) -> Path:
        return self._files.with_name(f".{self._mark}.err")

    def processes(self) -> list[int]:
        """The ids of all its processes that run, whoever started them, in their order."""
        wanted = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return sorted(found)

    def rank_processes(self) -> list[int]:
        """The ids of its ranks, by rank."""
        by_rank = {}
        for process in self.processes():
            with contextlib.suppress(OSError):
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                ranks = [v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")]
                if ranks:
                    by_rank.setdefault(int(ranks[0].partition(b"=")[2]), process)
        return [by_rank[rank] for rank in sorted(by_rank)]

    @property
    def running(self) -> bool:
        """Whether it hasn't ended."""
        return self.process.poll() is None

    def wait_until(self, holds: Callable[[], bool], pause: float = 0.001) -> bool:
        """Wait for something while the job runs; False if it ended before, or at the deadline."""
        deadline = time.monotonic() + HANG_SECONDS
        while self.running and time.monotonic() < deadline:
            if holds():
                return True
            time.sleep(pause)
        return False

    def kill(self) -> None:
        """Kill every process of it that is left."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        if self in _unfinished:
            _unfinished.remove(self)

    def ended(
        self,
        since: float | None = None,
        limit: float = HANG_SECONDS,
        orphan_limit: float = ORPHAN_SECONDS,
    ) -> Ended:
        """Wait for its end, at most ``limit`` seconds, then for its last process; whatever is left is killed."""
        since = self.began if since is None else since
        code: int | None
        try:
            code = self.process.wait(max(0.1, limit + since - time.monotonic()))
            code = 128 - code if code < 0 else code
        except subprocess.TimeoutExpired:
            code = None
        end = time.monotonic()
        deadline = end + (orphan_limit if code is not None else 0.0)
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        gone_after = time.monotonic() - end
        orphans = tuple(_described(process) for process in left)
        self.kill()
        texts = [
            path.read_text("utf-8", "replace")
            for path in (self._errors.with_suffix(".out"), self._errors)
        ]
        leftovers = tuple(
            sorted(
                str(path)
                for folder in (self._files, self.segments)
                for path in folder.rglob("*")
                if path.is_file() and path.name != COMPILING
            )
        )
        shutil.rmtree(self._files)
        shutil.rmtree(self.segments)
        return Ended(code, end - since, *texts, gone_after, orphans, leftovers)


_unfinished: list[Job] = []


def kill_unfinished() -> None:
    """Kill the jobs that a trial has left when it was interrupted, and remove what they have in /dev/shm."""
    for job in list(_unfinished):
        job.kill()
        shutil.rmtree(job.segments, ignore_errors=True)


def _described(process: int) -> str:
    """Its id, its state (R runs, S sleeps, T is stopped), what it waits for in the kernel, and its first words."""
    with contextlib.suppress(OSError):
        folder = Path(f"/proc/{process}")
        state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        waits = (folder / "wchan").read_text()
        words = (folder / "cmdline").read_bytes().split(b"\0")
        return f"{process} {state} {waits} {b' '.join(words[:4]).decode(errors='replace')}"
    return str(process)
