"""What a user sees of a command: progress, notes, errors. Text goes to stdout, or to stderr beside ``--json``."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from esd.commands.live_view import Throttle, View, duration, of_center, rate, short
from esd.commands.output import write_json
from esd.commands.terminal import Screen
from esd.errors import one_line, printable
from esd.run import metrics
from esd.run.files import json_text
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from esd.training import reports as training
from esd.training.reports import GenerationReport

if TYPE_CHECKING:
    from esd.mpi.comm import Communicator
    from esd.training.stop import StopRequest

SECONDS_BETWEEN_LINES = 1.0
SECONDS_BETWEEN_FRAMES = 0.5  # a frame takes some milliseconds


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on stdout, the last that a command prints; NaN, which JSON lacks, becomes null."""
    text = json_text(data)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (
        UnicodeEncodeError,
        LookupError,
    ):  # an ASCII terminal, or a file's name that is not UTF-8
        text = json.dumps(json.loads(text))
    write_json(text)


def print_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Rows of a table, the first its head, in columns as wide as they need; those named by ``right`` end alike."""
    rows = [[printable(cell) for cell in row] for row in rows]  # of a run that may be a stranger's
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


class Quiet:
    """A reporter that says nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def generation(self, report: GenerationReport, generations: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class OnFirstRank:
    """Passes on to a reporter as long as this rank is the first; when rank 0 is lost, another one is."""

    def __init__(self, comm: Communicator, reporter: ConsoleReporter) -> None:
        """Report for the ranks of ``comm``."""
        self._comm, self._reporter = comm, reporter

    def begin(self, run: Path) -> None:
        """See ``ConsoleReporter.begin``."""
        self._reporter.begin(run)

    def note(self, text: str) -> None:
        """See ``ConsoleReporter.note``."""
        if self._comm.rank == 0:
            self._reporter.note(text)

    def generation(self, report: GenerationReport, generations: int) -> None:
        """See ``ConsoleReporter.generation``."""
        if self._comm.rank == 0:
            self._reporter.generation(report, generations)

    def say_at_once(self, text: str) -> None:
        """See ``ConsoleReporter.say_at_once``."""
        if self._comm.rank == 0:
            self._reporter.say_at_once(text)

    def close(self) -> None:
        """See ``ConsoleReporter.close``."""
        self._reporter.close()


def reporter_for(comm: Communicator, to_stderr: bool, launched: bool) -> Reporter:
    """What reports on rank 0 and is silent on the others.

    Args:
        comm: the ranks.
        to_stderr: stdout is for results.
        launched: by mpirun.
    """
    if comm.survives:
        return OnFirstRank(comm, ConsoleReporter(to_stderr, launched))
    return ConsoleReporter(to_stderr, launched) if comm.rank == 0 else Quiet()


class Reporter(training.Reporter, Protocol):
    """What tells a user of a training, until it is closed."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class ConsoleReporter:
    """Progress of training: a live view (``live_view``) where one can be drawn (``terminal``), else plain lines."""

    def __init__(self, to_stderr: bool = False, launched: bool = False) -> None:
        """Choose where and how to write."""
        self._console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._screen = Screen(self._console, launched)
        self._live: Live | None = None
        self._view: View | None = None
        self._due = Throttle(SECONDS_BETWEEN_FRAMES)
        self._run: Path | None = None
        self._last_line = 0.0
        self._silent = False
        self._began: tuple[float, int] | None = None

    def begin(self, run: Path) -> None:
        """Name the folder of the run, whose generations so far belong to the view."""
        self._run = run

    def note(self, text: str) -> None:
        """A line of its own."""
        self._say(lambda: self._console.print(Text(printable(str(text)))))

    def _say(self, say: Callable[[], object]) -> None:
        """Write as long as it can be written: a reader that has left, or a full disk, is no reason to stop training."""
        if self._silent:
            return
        try:
            say()
        except (OSError, ValueError, SystemExit):  # SystemExit is how rich puts a broken pipe
            self._silent = True

    def generation(self, report: GenerationReport, generations: int) -> None:
        """Show a generation; plain lines come at most once a second, and always for the last."""
        self._say(lambda: self._generation(report, generations))

    def _generation(self, report: GenerationReport, generations: int) -> None:
        if self._screen.drawable:
            self._show_live(report, generations)
            return
        now = time.monotonic()
        if self._began is None:
            self._began = (now, report.generation)
        last = report.generation >= generations - 1
        if now - self._last_line >= SECONDS_BETWEEN_LINES or last:
            self._last_line = now
            left = self._seconds_left(report.generation, generations, now)
            self.note(f"generation {report.generation}/{generations}  {_numbers(report)}{left}")

    def _seconds_left(self, generation: int, generations: int, now: float) -> str:
        assert self._began is not None
        since, first = self._began
        done = generation - first
        if not done:
            return ""
        return f"  left {duration((now - since) / done * (generations - generation))}"

    def _show_live(self, report: GenerationReport, generations: int) -> None:
        if self._view is None or self._live is None:
            title = "" if self._run is None else str(self._run)
            self._view = View(title, generations, report.minimizes, report.counts)
            for line in self._lines_before(report.generation):
                self._view.add(line)
            # without a thread: a frame is drawn when there is something new
            self._live = Live(self._view, console=self._console, auto_refresh=False)
            self._live.start()
            if not self._screen.may_hide_cursor:
                self._console.show_cursor(True)
        self._view.add(report.line())
        if self._due.is_due():
            self._screen.measure()
            self._live.refresh()

    def _lines_before(self, generation: int) -> list[metrics.Line]:
        """What the run did before this call."""
        if self._run is None or not generation:
            return []
        lines = metrics.read(RunFolder(self._run, Trust.NEVER).metrics_file)
        return [line for line in lines if line["generation"] < generation]

    def say_at_once(self, text: str) -> None:
        """A line of its own, from a signal handler; a view goes on below it."""
        if self._silent:
            return
        self._screen.write_now(one_line(text))
        if self._live is not None:
            self._live._live_render._shape = None  # the next frame is not drawn over this one

    def close(self) -> None:
        """Draw the last frame, and leave the terminal as it was."""
        live, self._live = self._live, None
        if live is not None:
            self._say(live.refresh)
            self._say(live.stop)


def show_run(reporter: Reporter, run: Path) -> None:
    """Name the run's folder to a reporter that shows it."""
    if isinstance(reporter, ConsoleReporter | OnFirstRank):
        reporter.begin(run)


def announce_stop(reporter: Reporter, stop: StopRequest, run: Path, launched: bool) -> None:
    """Let the first signal be answered at once: a generation may take long, and mpirun may kill this rank meanwhile.

    Args:
        reporter: of this rank; only one that writes to the console answers.
        stop: hears the signals.
        run: the run's folder.
        launched: by mpirun.
    """
    if isinstance(reporter, ConsoleReporter | OnFirstRank):
        go_on = f"to continue: esd train --run {shlex.quote(str(run))}"
        # Ctrl-C arrives as SIGTERM: mpirun answers it, and SIGTERM, so
        kills = "mpirun ends this job at once, all completed generations are kept"
        says = "stopping after this generation"
        stop.announce = lambda number: reporter.say_at_once(
            f"{kills if launched and number == signal.SIGTERM else says}; {go_on}"
        )


def _numbers(report: GenerationReport) -> str:
    of_variants = of_center(report.variant_centers, report.minimizes)
    parts = [
        f"{name} {short(value)}{of_variants if name == 'center' else ''}"
        for name, value in (
            ("center", report.center_return),
            ("mean", report.return_mean),
            ("best", report.return_best),
        )
        if value is not None
    ]
    parts += [
        f"{rate(report.steps_per_second)} {report.counts}/s",
        f"idle {report.idle_share:.0%}",
    ]
    if report.failed_members:
        parts.append(f"{report.failed_members} members without a finite fitness")
    return "  ".join(parts)


def print_error(text: str) -> None:
    """An error in one line on stderr."""
    print(f"esd: {printable(text)}", file=sys.stderr, flush=True)
