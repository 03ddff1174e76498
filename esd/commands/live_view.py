"""The live view of a training: its learning curve and its numbers, from lines of metrics.jsonl.

``esd train`` shows it on rank 0, ``esd show --follow`` from the run's folder. It is made of text only: ``View`` turns
what it has seen into something that rich prints at any width.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from esd.commands.curve import Curve, plotted
from esd.errors import one_line

Line = Mapping[str, Any]

PLOT_ROWS = 12
OTHER_ROWS = 9  # of a frame without the plot, and one for the cursor
LEAST_ROWS = 3  # of a plot
MOST_COLUMNS = 120
NARROW = 76  # columns, below which some numbers are left out
LONGEST_NAME = 40  # characters of a variant's name
VARIANTS_SHOWN = 4  # of more only the worst
RECENT = 20  # generations that say how long the next ones take
COLORS = {"best": "yellow", "mean": "blue", "center": "green"}  # the last one is drawn on top


class View:
    """A frame of the live view, made anew whenever rich prints it.

    Args:
        title: the run's folder.
        generations: of the whole run.
        minimizes: small returns are good.
        counts: what the steps are: "steps" or "evaluations".
    """

    def __init__(self, title: str, generations: int, minimizes: bool, counts: str) -> None:
        """Begin without a line."""
        self.title, self.generations = title, generations
        self._minimizes, self._counts = minimizes, counts
        self._curves = {name: Curve() for name in COLORS}
        self._last: Line = {}
        self._center: Line = {}  # the last line with a center
        self._members: Line = {}  # the last line of a generation with members
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._failed = 0
        self.note = ""

    def add(self, line: Line) -> None:
        """Take in the next line of the metrics."""
        generation = line["generation"]
        best = line.get("return_min" if self._minimizes else "return_max")
        values = (best, line.get("return_mean"), line.get("center_return"))
        for curve, value in zip(self._curves.values(), values, strict=True):
            if value is not None:
                curve.add(generation, value)
        if line.get("generation_seconds") is not None:
            self._seconds.append(line["generation_seconds"])
        self._failed += line.get("failed_members") or 0
        self._last = line
        if line.get("center_return") is not None:
            self._center = line
        if line.get("return_mean") is not None:
            self._members = line

    @property
    def done(self) -> int:
        """Generations that are complete."""
        return min(self._last["generation"] + 1, self.generations) if self._last else 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One frame, as wide as the terminal and no wider than is good to read."""
        width = min(options.max_width, MOST_COLUMNS)
        inside = width - 4
        rows = min(PLOT_ROWS, console.size.height - OTHER_ROWS)
        parts: list[Any] = []
        if rows >= LEAST_ROWS:
            parts.append(plotted(self._curves, COLORS, inside, rows, self.generations))
        parts += [self._returns(inside), self._numbers(inside), self._progress(inside)]
        yield Panel(
            Group(*parts),
            title=Text(_shortened(self.title, inside - 4), style="bold"),
            title_align="left",
            border_style="dim",
            width=width,
        )

    def _returns(self, width: int) -> Text:
        """Center, mean and best, in the colors of their curves."""
        best = "return_min" if self._minimizes else "return_max"
        values = {
            "center": self._center.get("center_return"),
            "mean": self._members.get("return_mean"),
            "best": self._members.get(best),
        }
        text = Text(no_wrap=True, overflow="ellipsis")
        for name in ("center", "mean", "best"):
            text.append(f"{name} ", style=COLORS[name])
            text.append(f"{number(values[name])}   ", style="bold")
        prefix = "center_return."
        centers = {
            one_line(key.removeprefix(prefix), LONGEST_NAME): value
            for key, value in self._center.items()
            if key.startswith(prefix)
        }
        of_variants = of_center(centers, self._minimizes)
        if of_variants and width >= NARROW - 4:
            text.append(of_variants.strip(" ()"), style="dim")
        return text

    def _numbers(self, width: int) -> Text:
        """How the training is set and how fast it goes."""
        line = self._members
        speed, idle = line.get("steps_per_second"), line.get("idle_share")
        parts = [f"σ {number(line.get('sigma'))}"]
        if width >= NARROW - 4:
            parts.append(f"learning rate {number(line.get('learning_rate'))}")
        parts.append(f"{'–' if speed is None else rate(speed)} {self._counts}/s")
        parts.append(f"idle {'–' if idle is None else f'{idle:.0%}'}")
        text = Text("   ".join(parts), no_wrap=True, overflow="ellipsis")
        now = f" ({line['failed_members']} now)" if line.get("failed_members") else ""
        text.append(f"   {self._failed} failed{now}", style="red" if self._failed else "dim")
        return text

    def _progress(self, width: int) -> Table:
        """The bar, and the time."""
        elapsed = duration(self._last.get("seconds") or 0.0)
        left = self.seconds_left
        words = f"{self.done}/{self.generations}  {elapsed}"
        if self.note:
            words += f"  {self.note}"
        elif left is not None and self.done < self.generations:
            words += f"  {duration(left)} left"
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True)
        bar = ProgressBar(
            total=max(1, self.generations),
            completed=self.done,
            complete_style="green",
            finished_style="green",
        )
        table.add_row(bar, Text(_shortened(words, max(10, width - 12)), no_wrap=True))
        return table

    @property
    def seconds_left(self) -> float | None:
        """By how long the last generations took; None if nobody knows yet."""
        if not self._seconds:
            return None
        return sum(self._seconds) / len(self._seconds) * (self.generations - self.done)


class Throttle:
    """Lets a frame through now and then: drawing takes milliseconds, and a generation may take one."""

    def __init__(self, seconds: float) -> None:
        """So far apart at least."""
        self._seconds, self._last = seconds, -math.inf

    def is_due(self) -> bool:
        """Whether it is time for another."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def of_center(centers: Mapping[str, float | None], minimizes: bool) -> str:
    """What the center's return is made of, on each variant or on the worst of many: " (push 9, pull 3)"."""
    known = {name: value for name, value in centers.items() if value is not None}
    if not known:
        return ""
    if len(known) > VARIANTS_SHOWN:
        worst = max if minimizes else min
        name = worst(known, key=lambda variant: known[variant])
        return f" (worst: {name} {short(known[name])})"
    return f" ({', '.join(f'{name} {short(value)}' for name, value in known.items())})"


def number(value: float | None) -> str:
    """A number, or a dash if it is not known."""
    return "–" if value is None else short(value)


def short(value: float) -> str:
    """A number in few characters."""
    if abs(value) >= 1e7:
        return f"{value:.3g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def rate(per_second: float) -> str:
    """Of slow evaluations more digits."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def duration(seconds: float) -> str:
    """As 0:07, 12:07 or 1:12:07."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _shortened(text: str, most: int) -> str:
    """The end of a text that is too long: of a path, that says more than its beginning."""
    return text if len(text) <= most else f"…{text[-(most - 1) :]}"
