"""What a figure of the page is: traces for Plotly, what it shows in words, and the table behind it.

Colors are not in the traces: ``meta`` says which group's color a trace has, and the page's script puts in the one of
the light or the dark palette. Axes are named in ``layout``; all the rest of the looks is the script's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Trace = dict[str, Any]
Cell = str | float | int | None

DASHES = (
    "solid",
    "dash",
    "dot",
    "dashdot",
    "longdash",
)  # beside colors, for eyes that don't see these
DIGITS = 5  # of numbers in traces: a screen shows no more


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers.

    Attributes:
        head: of each column.
        rows: as many cells each.
        caption: what the table is.
        left: columns of text; numbers are aligned to the right.
        same: columns of one unit, which are shown with as many decimals.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    left: Sequence[int] = (0,)
    same: Sequence[int] = ()


@dataclass(frozen=True)
class Key:
    """An entry of a legend, which shows and hides the traces of its group.

    Attributes:
        group: ``legendgroup`` of the traces.
        label: for people.
        color: number of the color; None for gray.
        dash: of the line.
    """

    group: str
    label: str
    color: int | None
    dash: str = "solid"


@dataclass(frozen=True)
class View:
    """One choice of what a figure shows."""

    data: Sequence[Trace]
    layout: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: in the page's addresses, such as "learning".
        title: of it.
        description: what it shows, for whoever does not see it.
        views: by the numbers of the choices, such as "0|1"; a figure without choices has the one view "".
        choices: a label and options each.
        keys: its legend.
        table: the numbers behind it; None where they stand below the figure anyway.
        caption: how to read it.
        height: in pixels.
        frames: layers of a weight explorer, see ``episode``.
    """

    name: str
    title: str
    description: str
    views: Mapping[str, View]
    table: Table | None
    caption: str = ""
    choices: Sequence[tuple[str, Sequence[str]]] = ()
    keys: Sequence[Key] = ()
    height: int = 380
    frames: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What the script draws."""
        return {
            "views": {
                name: {"data": view.data, "layout": view.layout}
                for name, view in self.views.items()
            },
            "keys": [
                {"group": k.group, "label": k.label, "color": k.color, "dash": k.dash}
                for k in self.keys
            ],
            "height": self.height,
            **({"frames": self.frames} if self.frames else {}),
        }


def numbers(values: npt.ArrayLike, digits: int = DIGITS) -> list[float | None]:
    """Numbers of a trace, of so many digits; None for what is not finite."""
    return [
        float(f"{value:.{digits}g}") if math.isfinite(value) else None
        for value in np.asarray(values, np.float64).tolist()
    ]


def dash_of(number: int) -> str:
    """The line of a group."""
    return DASHES[number % len(DASHES)]


def line(
    name: str,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    color: int | None,
    **own: Any,
) -> Trace:
    """A line of a group's color.

    Args:
        name: of its group.
        x: float [n].
        y: float [n].
        color: number of the color; None for gray.
        own: more of the trace.
    """
    style = {"width": 2, "dash": "solid"} | own.pop("line", {})
    return {
        "type": "scatter",
        "mode": "lines",
        "name": text_of_plot(name),
        "legendgroup": name,
        "x": numbers(x),
        "y": numbers(y),
        "line": style,
        "meta": {"color": color},
        **own,
    }


def band(
    name: str, x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, color: int | None
) -> list[Trace]:
    """The area between two curves."""
    shared: dict[str, Any] = {"hoverinfo": "skip", "line": {"width": 0}}
    return [
        line(name, x, high, color, **shared),
        line(name, x, low, color, fill="tonexty", **shared)
        | {"meta": {"color": color, "fill": 0.16}},
    ]


def axis(title: str, **own: Any) -> dict[str, Any]:
    """An axis with a title, which may hold a run's own names."""
    return {"title": {"text": text_of_plot(title)}, **own}


def text_of_plot(text: str) -> str:
    """Text that Plotly draws: it knows some tags of HTML, which a run's name shall not be."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
