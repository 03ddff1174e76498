"""Jobs that neither run nor end: ranks that do not join, and processes that are stopped where no rank can notice it.

Ranks that watch each other find one of them that is stopped (``esd.watch``). They do so once MPI is initialized and the
team is made. Until then, and for mpirun itself, the supervisor looks.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from esd.launching.job import Job

GONE_SECONDS = 3.0  # from a rank's end to mpirun's, unless ranks may be lost
STOPPED_SECONDS = 60.0  # that a process may be stopped, as run.silence_seconds has it of ranks
LONGEST_LOOK_SECONDS = 1.0  # a look that comes later says that the supervisor was stopped as well


class Standstill:
    """Looks at a job again and again.

    Args:
        job: which.
        start_seconds: for all ranks to watch each other.
        local: all its ranks are on this machine.
    """

    def __init__(self, job: Job, start_seconds: float, local: bool) -> None:
        """Nothing was seen yet."""
        self._job, self._start_seconds, self._local = job, start_seconds, local
        self._most, self._full = 0, job.began
        self._looked, self._stopped_for = job.began, 0.0

    def reason(self, now: float) -> str:
        """Why the job can't go on; empty as long as it can.

        Args:
            now: the time [s of time.monotonic].
        """
        job = self._job
        stopped = self._stopped()
        step, self._looked = min(now - self._looked, LONGEST_LOOK_SECONDS), now
        self._stopped_for = self._stopped_for + step if stopped else 0.0
        if self._stopped_for > STOPPED_SECONDS:
            return f"{stopped} for {STOPPED_SECONDS:.0f} s"
        if not job.watched and now - job.began > self._start_seconds:
            why = f"not all ranks had connected after {now - job.began:.0f} s"
            return f"{why}: {stopped}" if stopped else why
        if self._local and not job.started:
            here = len(job.ranks_here())
            self._most, self._full = max(self._most, here), now if here >= self._most else self._full  # fmt: skip
            if now - self._full > GONE_SECONDS:  # nobody gets through MPI_Init any more
                return "a rank was lost before all ranks had connected"
        return ""

    def _stopped(self) -> str:
        """Which process is stopped, in words; empty for none, or all of them: somebody has suspended the job."""
        job = self._job
        mpirun = is_stopped(job.process.pid)
        if job.watched and not mpirun:
            return ""
        here = job.ranks_here()
        stopped = [process for process in here if is_stopped(process)]
        if here and len(stopped) == len(here):
            return ""
        if mpirun:
            return f"mpirun (process {job.process.pid}) has been stopped"
        return f"process {stopped[0]} of the job has been stopped" if stopped else ""


def is_stopped(process: int) -> bool:
    """Whether a process of this machine is stopped, by a signal or a debugger; no where that can't be seen."""
    with contextlib.suppress(OSError, IndexError):
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return state in (b"T", b"t")
    return False
