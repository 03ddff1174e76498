"""Learning curves in text: dots of braille characters, two beside and four above each other in each.

Curves keep a bounded number of points, whatever the number of generations. An axis becomes logarithmic where values
are positive and span more than three orders of magnitude, as those of minimized objectives do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

from rich.text import Text

MOST_POINTS = 1024
DOTS_X, DOTS_Y = 2, 4
BITS = (
    (0x01, 0x02, 0x04, 0x40),
    (0x08, 0x10, 0x20, 0x80),
)  # of the dots of a character, by column and row
BRAILLE = 0x2800
DECADES = 3.0
Scale = Callable[[float], float]


class Curve:
    """Values over generations; neighbors are averaged when there are too many."""

    def __init__(self) -> None:
        """Begin without points."""
        self.points: list[tuple[float, float]] = []
        self._together = 1  # generations in each point
        self._waiting: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Add the next point."""
        if not math.isfinite(y):
            return
        self._waiting.append((x, y))
        if len(self._waiting) < self._together:
            return
        self.points.append(_mean(self._waiting))
        self._waiting = []
        if len(self.points) > MOST_POINTS:
            pairs = zip(self.points[0::2], self.points[1::2], strict=False)
            self.points = [_mean(list(pair)) for pair in pairs]
            self._together *= 2


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    count = len(points)
    return sum(x for x, _ in points) / count, sum(y / count for _, y in points)


def plotted(
    curves: Mapping[str, Curve], styles: Mapping[str, str], width: int, rows: int, last: int
) -> Text:
    """Curves in rows of text, the last one on top, with an axis of values on the left.

    Args:
        curves: by name.
        styles: their colors, by name.
        width: in characters.
        rows: in characters.
        last: the generation at the right end; curves that are far from it have an axis that is shorter.
    """
    values = [y for curve in curves.values() for _, y in curve.points]
    if not values:
        lines = [""] * rows
        lines[rows // 2] = "waiting for the first generation".center(width)
        return Text("\n".join(lines), style="dim", no_wrap=True)
    scale, logarithmic = _scale(values)
    low, high = min(map(scale, values)), max(map(scale, values))
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    labels = {0: _label(high, logarithmic), rows - 1: _label(low, logarithmic)}
    if rows >= 5:
        labels[rows // 2] = _label(high - (high - low) * (rows // 2) / (rows - 1), logarithmic)
    margin = max(map(len, labels.values()))
    columns = max(8, width - margin - 2)
    newest = max(x for curve in curves.values() for x, _ in curve.points)
    end = _end(newest, last)
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for name, curve in curves.items():
        dots = [
            (
                round(x / max(1.0, end) * (columns * DOTS_X - 1)),
                round((high - scale(y)) / (high - low) * (rows * DOTS_Y - 1)),
            )
            for x, y in curve.points
        ]
        for x, y in _joined(dots):
            place = (y // DOTS_Y, x // DOTS_X)
            bits, _ = cells.get(place, (0, ""))  # where curves cross, the last one gives the color
            cells[place] = (bits | BITS[x % DOTS_X][y % DOTS_Y], styles[name])
    text = Text(no_wrap=True)
    for row in range(rows):
        text.append(f"{labels.get(row, ''):>{margin}} ", style="dim")
        text.append("┤" if row in labels else "│", style="dim")
        here = [cells.get((row, column), (0, "")) for column in range(columns)]
        for style, run in itertools.groupby(here, key=lambda cell: cell[1]):  # fewer bytes
            text.append("".join(chr(BRAILLE + bits) if bits else " " for bits, _ in run), style)
        text.append("\n")
    right = f" generation {end:,.0f}"
    text.append(f"{'':{margin}} └{'0':─<{columns - len(right)}}{right}", style="dim")
    return text


def _end(newest: float, last: int) -> float:
    """Where the axis ends: at the last generation once a good part is done; before that with room to grow."""
    end = float(max(last, newest))
    while end > 16 and newest < 0.45 * end:
        end = math.ceil(end / 2)
    return end


def _scale(values: list[float]) -> tuple[Scale, bool]:
    least, most = min(values), max(values)
    if least > 0 and math.log10(most) - math.log10(least) > DECADES:
        return math.log10, True
    return float, False


def _label(value: float, logarithmic: bool) -> str:
    if logarithmic:
        value = 10.0 ** max(-307.0, min(307.0, value))
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _joined(dots: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Dots with straight lines between neighbors."""
    found = dots[:1]
    for (x0, y0), (x1, y1) in itertools.pairwise(dots):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        found += [
            (round(x0 + (x1 - x0) * k / steps), round(y0 + (y1 - y0) * k / steps))
            for k in range(1, steps + 1)
        ]
    return found
