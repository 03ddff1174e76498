"""What a user sees of a command: progress, notes, errors. Text goes to stdout, or to stderr beside ``--json``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeRemainingColumn

from esd.commands.output import write_json
from esd.run.files import json_text
from esd.training import reports as training
from esd.training.reports import GenerationReport

if TYPE_CHECKING:
    from esd.mpi.comm import Communicator

SECONDS_BETWEEN_LINES = 1.0


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

    def note(self, text: str) -> None:
        """See ``ConsoleReporter.note``."""
        if self._comm.rank == 0:
            self._reporter.note(text)

    def generation(self, report: GenerationReport, generations: int) -> None:
        """See ``ConsoleReporter.generation``."""
        if self._comm.rank == 0:
            self._reporter.generation(report, generations)

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
    """Progress of training: a live line in a terminal, plain lines elsewhere.

    Under a launcher what looks like a terminal is the launcher's, which passes on lines, so those are plain too.
    """

    def __init__(self, to_stderr: bool = False, launched: bool = False) -> None:
        """Choose where and how to write."""
        self._console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal and not launched
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0
        self._silent = False
        self._began: tuple[float, int] | None = None

    def note(self, text: str) -> None:
        """A line of its own."""
        self._say(lambda: self._console.print(text, markup=False))

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
        if self._live:
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
        return f"  left {_duration((now - since) / done * (generations - generation))}"

    def _show_live(self, report: GenerationReport, generations: int) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.description}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                refresh_per_second=2,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=generations, completed=report.generation)
        assert self._task is not None
        done = min(report.generation + 1, generations)
        self._progress.update(self._task, completed=done, description=_numbers(report))

    def close(self) -> None:
        """Leave the terminal as it was."""
        progress, self._progress = self._progress, None
        if progress is not None:
            self._say(progress.stop)


VARIANTS_SHOWN = 4  # of more only the worst


def _numbers(report: GenerationReport) -> str:
    parts = [
        f"{name} {_short(value)}{_of_variants(report) if name == 'center' else ''}"
        for name, value in (
            ("center", report.center_return),
            ("mean", report.return_mean),
            ("best", report.return_best),
        )
        if value is not None
    ]
    parts += [
        f"{_rate(report.steps_per_second)} {report.counts}/s",
        f"idle {report.idle_share:.0%}",
    ]
    if report.failed_members:
        parts.append(f"{report.failed_members} members without a finite fitness")
    return "  ".join(parts)


def _rate(per_second: float) -> str:
    """Of slow evaluations more digits."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _of_variants(report: GenerationReport) -> str:
    """What the center's return is made of."""
    centers = {k: value for k, value in report.variant_centers.items() if value is not None}
    if not centers:
        return ""
    if len(centers) > VARIANTS_SHOWN:
        worst = max if report.minimizes else min
        name = worst(centers, key=lambda variant: centers[variant])
        return f" (worst: {name} {_short(centers[name])})"
    return f" ({', '.join(f'{name} {_short(value)}' for name, value in centers.items())})"


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def print_error(text: str) -> None:
    """An error in one line on stderr."""
    print(f"esd: {text}", file=sys.stderr, flush=True)
