"""The supervisor: starts a training under mpirun, and starts it again from its folder when it dies as a whole.

Success is DONE.json: mpirun's exit code was 0 for unfinished runs, and not 0 for finished ones.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from esd.errors import EXIT_STOPPED_EARLY, UsageError
from esd.launching import scratch
from esd.launching.events import Events
from esd.launching.hosts import Hosts, agent, answering
from esd.launching.job import Death, Job
from esd.launching.mpirun import OPEN_MPI, Mpirun, for_mpirun
from esd.launching.restarts import Ended, Restarts, Verdict
from esd.launching.standstill import Standstill
from esd.launching.train_command import Standing, TrainCommand
from esd.mpi.launch import SUPERVISED
from esd.run.training_folder import TrainingFolder
from esd.training.stop import StopRequest

STOP_SIGNAL = signal.SIGUSR1  # mpirun passes it on to its ranks; on others it kills them
QUIET_SECONDS = 20.0  # without a generation, before hosts are asked whether they are still there
AGAIN_SECONDS = 10.0  # until a host that did not answer is asked again
LOCK_SECONDS = 30.0  # for the folder's lock to be let go by ranks of the job before
PAUSE_STEP = 0.1


@dataclass(frozen=True)
class Launch:
    """What is launched, and how.

    Attributes:
        mpirun: the launcher.
        train: the command.
        ranks: how many processes; None for as many as the hosts have slots.
        hosts: where; None for this machine.
        options: of mpirun's, the user's own.
        max_restarts: at most so many.
        start_seconds: for all ranks to join.
        fault_tolerant: survivors of a lost rank go on.
    """

    mpirun: Mpirun
    train: TrainCommand
    ranks: int | None
    hosts: Hosts | None
    options: tuple[str, ...]
    max_restarts: int
    start_seconds: float
    fault_tolerant: bool


class Supervisor:
    """Carries out a launch."""

    def __init__(self, launch: Launch, stop: StopRequest) -> None:
        """Nothing is started yet."""
        self._launch, self._stop = launch, stop
        self._folder = TrainingFolder(launch.train.run)
        self._events = Events(self._folder)
        self._restarts = Restarts(launch.max_restarts)
        self._first = Standing.of(self._folder)
        self._left_out: set[str] = set()

    def run(self) -> int:
        """Start, watch and start again until there is an end; the exit code."""
        with scratch.folders() as (files, in_memory):
            while True:
                verdict = self._one_job(files, in_memory)
                if verdict.exit_code is not None:
                    return verdict.exit_code
                if not self._pause(verdict.pause):
                    self._events.say("stopped", "stopped by a signal between two starts")
                    return EXIT_STOPPED_EARLY
                self._wait_for_the_lock()

    def _one_job(self, files: Path, in_memory: Path | None) -> Verdict:
        """Start the job, watch it until it ends, and decide what is next."""
        hosts = self._hosts()
        if hosts is not None and not hosts.hosts:
            self._events.say("no-host", "no host responds")
            return self._judged(self._restarts.again(1, gained=False), None)
        before = Standing.of(self._folder)
        words = self._words(hosts, before, files)
        ranks = self._ranks(hosts)
        number = self._restarts.used
        what = f"restart {number} of {self._launch.max_restarts}" if number else "started"
        where = "" if hosts is None else f" on {', '.join(hosts.names())}"
        count = f"{ranks} ranks" if ranks is not None else "one rank per slot"
        job = Job(words, self._variables(files, in_memory))
        self._events.say(
            "restarted" if number else "started",
            f"{what}: {count}{where}, {self._folder.path} at generation {max(0, before.generations)}",
            ranks=ranks, hosts=hosts and hosts.names(), generation=before.generations, mpirun=job.process.pid,
        )  # fmt: skip
        try:
            death = self._watch(job, hosts)
        except BaseException:  # a second Ctrl-C
            job.kill()
            raise
        ended = Ended(
            death.code, before, Standing.of(self._folder), job.done, self._stop.requested, job.final
        )
        return self._judged(self._restarts.judge(ended), death, ended)

    def _watch(self, job: Job, hosts: Hosts | None) -> Death:
        """Wait for the job's end; pass on the wish to stop, and end it if it doesn't start or a host is gone."""
        passed_on = False
        seen, since = self._sign_of_life(), time.monotonic()
        missing: set[str] = set()
        standstill = Standstill(job, self._launch.start_seconds, hosts is None)
        ask_after = QUIET_SECONDS
        while (code := job.wait()) is None:
            now = time.monotonic()
            if self._stop.requested and not passed_on:
                passed_on = True
                job.send(STOP_SIGNAL)
            life = self._sign_of_life()
            if life != seen:
                seen, since, missing, ask_after = life, now, set(), QUIET_SECONDS
                job.started = job.watched = True
                self._events.write()
            if reason := standstill.reason(now):
                return self._ended(job, reason)
            if hosts is not None and now - since > ask_after:
                gone = set(hosts.names()) - answering(hosts, agent(self._launch.options))
                if gone & missing:  # twice in a row
                    return self._ended(
                        job, f"{', '.join(sorted(gone & missing))} no longer responds"
                    )
                missing, since = gone, time.monotonic()
                ask_after = AGAIN_SECONDS if gone else QUIET_SECONDS
        job.close()
        return job.death(code)

    def _ended(self, job: Job, why: str) -> Death:
        """End a job."""
        job.kill()
        code = job.process.returncode
        return job.death(128 - code if code < 0 else code or 1, why)

    def _judged(self, verdict: Verdict, death: Death | None, ended: Ended | None = None) -> Verdict:
        """Say what is next."""
        why = "" if death is None else death.why
        details = {} if death is None or ended is None else {
            "exit_code": death.code, "rank": death.rank, "signal": death.signal, "gained": ended.gained,
            "generation": ended.after.generations, "stderr": death.lines,
        }  # fmt: skip
        path = self._folder.path
        if verdict.event == "done":
            after = f" (the job then ended with {why})" if death and death.code else ""
            text = f"{path} is done{after}"
        elif verdict.event == "stopped":
            asked = ended is not None and ended.asked_to_stop
            how = "on request" if asked else "early, see the message above"
            text = f"{path}: stopped {how}; run the same command to resume"
        elif verdict.event == "refused":
            text = "esd train can't start, so it is not restarted: see the message above"
        elif verdict.exit_code is None:
            gained = f" after {ended.gained} new generations" if ended else ""
            text = f"the job died{gained} ({why or 'no host'}); restarting in {verdict.pause:.0f} s"
        else:
            died = f"the job died ({why})" if why else "no host responds"
            text = f"{died}; giving up: {verdict.why}"
        self._events.say(verdict.event, text, why=why, **details)
        return verdict

    def _hosts(self) -> Hosts | None:
        """The hosts to start on: all at first, and after a death those that answer."""
        hosts = self._launch.hosts
        if hosts is None or not self._restarts.used:
            return hosts
        there = answering(hosts, agent(self._launch.options))
        gone = set(hosts.names()) - there
        for name in sorted(gone - self._left_out):
            self._events.say("host-lost", f"{name} does not respond and is not used", host=name)
        for name in sorted(self._left_out - gone):
            self._events.say("host-back", f"{name} responds again", host=name)
        self._left_out = gone
        return hosts.only(there) if gone else hosts

    def _ranks(self, hosts: Hosts | None) -> int | None:
        launch = self._launch
        if hosts is None or launch.hosts is None:
            return launch.ranks
        return hosts.share_of(launch.ranks, launch.hosts)

    def _words(self, hosts: Hosts | None, before: Standing, files: Path) -> list[str]:
        """The words that start the job now."""
        launch = self._launch
        first = self._first
        old_is_there = not self._restarts.used or before.journal in (None, first.journal)
        command = launch.train.call(
            fresh=old_is_there, start_from=before.generations < 1 or old_is_there
        )
        return launch.mpirun.words(
            command,
            self._ranks(hosts),
            hosts,
            launch.options,
            (SUPERVISED,) if hosts is not None else (),
            launch.fault_tolerant,
            files,
        )

    def _variables(self, files: Path, in_memory: Path | None) -> Mapping[str, str]:
        """The environment of mpirun. On one machine what it leaves when it is killed is in folders of our own."""
        variables = for_mpirun(self._launch.mpirun.path)
        if self._launch.mpirun.kind != OPEN_MPI:
            return variables
        if os.getuid() == 0:  # in a container; mpirun refuses it otherwise
            variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        several = self._launch.hosts is not None or any(n.startswith("SLURM_") for n in variables)
        if not several:
            variables.setdefault("PRTE_MCA_prte_tmpdir_base", str(files))
            if in_memory is not None:
                variables.setdefault("OMPI_MCA_btl_sm_backing_directory", str(in_memory))
        return variables

    def _sign_of_life(self) -> tuple[int, int] | None:
        """What changes with every generation."""
        try:
            found = self._folder.metrics_file.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def _pause(self, seconds: float) -> bool:
        """Wait; False if somebody asks to stop meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._stop.requested:
                return False
            time.sleep(PAUSE_STEP)
        return not self._stop.requested

    def _wait_for_the_lock(self) -> None:
        """Let ranks of the job before, such as those on a host that is cut off, let go of the folder."""
        end = time.monotonic() + LOCK_SECONDS
        while self._folder.place.is_dir() and time.monotonic() < end and not self._stop.requested:
            try:
                self._folder.lock()
            except UsageError:
                time.sleep(PAUSE_STEP)
                continue
            self._folder.unlock()
            return


def refuse_nested() -> NoReturn:
    """Say that a launcher can't be started by each of the ranks of another.

    Raises:
        UsageError: always.
    """
    raise UsageError("esd launch starts mpirun itself: run it once, without mpirun or srun")
