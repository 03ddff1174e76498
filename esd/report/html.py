"""HTML text: everything that comes from a run is escaped here, in one place."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from esd.report.figure import Cell, Figure, Table
from esd.run.files import json_text

SHORT_CELL = 40  # characters that stay in one line
LONGEST_CELL = 300  # characters; a config's lists may be longer


def escaped(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text), quote=True)


def embedded(data: Any) -> str:
    """JSON that can stand within a script element: nothing in it can end that."""
    text = json.dumps(json.loads(json_text(data)), separators=(",", ":"))  # ASCII, NaN is null
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number(value: float | int | None, digits: int = 6) -> str:
    """A number for people, or a dash for what is not known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 2}g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:,.{digits - 2}g}"
    return text.replace("-", "−")


def alike(values: Sequence[float]) -> int | None:
    """Decimals with which numbers of one column are shown; None where some would need too many or too few."""
    sizes = [abs(value) for value in values if math.isfinite(value)]
    largest = max(sizes, default=0.0)
    if not 1e-3 <= largest < 1e6:
        return None
    return max(0, 3 - math.floor(math.log10(largest)))


def alike_columns(columns: Sequence[Sequence[float]]) -> int | None:
    """Decimals for several columns of one unit: as ``alike``, and at least two digits of each column's largest."""
    decimals = alike([value for column in columns for value in column])
    if decimals is None:
        return None
    largest = [max((abs(v) for v in own if math.isfinite(v)), default=0.0) for own in columns]
    needed = [1 - math.floor(math.log10(size)) for size in largest if size > 0.0]
    return min(max([decimals, *needed]), decimals + 2)


def fixed(value: float, decimals: int | None) -> str:
    """A number with so many decimals."""
    if decimals is None or not math.isfinite(value):
        return number(value)
    return f"{value:,.{decimals}f}".replace("-", "−")


def interval(low: float, high: float, decimals: int | None) -> str:
    """From a number to another one, with so many decimals."""
    return f"{fixed(low, decimals)} to {fixed(high, decimals)}"


def cell(value: Cell, decimals: int | None) -> str:
    """A cell's text."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_CELL else f"{value[: LONGEST_CELL - 1]}…"
    return fixed(value, decimals) if isinstance(value, float) else number(value)


def table(found: Table) -> str:
    """A table in a box that can be scrolled, also by keyboard."""
    left = set(found.left)
    columns = list(zip(*found.rows, strict=True)) or [() for _ in found.head]
    numbers = [[v for v in column if isinstance(v, float)] for column in columns]
    decimals = [alike(column) for column in numbers]
    shared = alike_columns([numbers[i] for i in found.same])
    decimals = [shared if i in found.same else own for i, own in enumerate(decimals)]
    short = {
        i
        for i, column in enumerate(columns)
        if all(len(v) <= SHORT_CELL for v in column if isinstance(v, str))
    }

    def attributes(column: int) -> str:
        if column not in left:
            return ' class="n"'
        return ' class="t"' if column in short and column else ""

    head = "".join(
        f'<th scope="col"{attributes(i)}>{escaped(name)}</th>' for i, name in enumerate(found.head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row"{attributes(i)}>{escaped(cell(value, decimals[i]))}</th>'
            if i == 0
            else f"<td{attributes(i)}>{escaped(cell(value, decimals[i]))}</td>"
            for i, value in enumerate(row)
        )
        + "</tr>\n"
        for row in found.rows
    )
    caption = (
        f'<p class="caption" aria-hidden="true">{escaped(found.caption)}</p>'
        if found.caption
        else ""
    )
    label = escaped(found.caption or "Table")
    return (
        f'{caption}<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table aria-label="{label}">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )


def details(summary: str, content: str, opened: bool = False) -> str:
    """A part that opens."""
    return (
        f"<details{' open' if opened else ''}><summary>{escaped(summary)}</summary>\n{content}"
        "</details>\n"
    )


def figure(found: Figure) -> str:
    """A figure, its choices, its legend's place, and the table behind it."""
    name = escaped(found.name)
    selects = "".join(
        f'<label for="{name}-choice-{i}">{escaped(label)}</label> '
        f'<select id="{name}-choice-{i}" data-choice="{i}">'
        + "".join(f'<option value="{j}">{escaped(o)}</option>' for j, o in enumerate(options))
        + "</select>"
        for i, (label, options) in enumerate(found.choices)
        if len(options) > 1
    )
    controls = f'<div class="controls">{selects}</div>' if selects else ""
    player = _player(found) if found.frames else ""
    caption = f"<p>{escaped(found.caption)}</p>" if found.caption else ""
    numbers = (
        "" if found.table is None else details("Numbers behind this figure", table(found.table))
    )
    return (
        f'<figure id="{name}" aria-labelledby="{name}-title">\n'
        f'<h3 id="{name}-title">{escaped(found.title)}</h3>\n{controls}'
        f'<div class="keys" role="group" aria-label="Legend: show or hide"></div>\n{player}'
        f'<div class="plot" role="img" aria-label="{escaped(found.description)}" '
        f'style="min-height:{found.height}px"></div>\n'
        f"<figcaption>{caption}</figcaption>\n"
        f"{numbers}"
        f'<script type="application/json">{embedded(found.as_json())}</script>\n</figure>\n'
    )


def _player(found: Figure) -> str:
    """Buttons and a slider that go through the steps of an episode."""
    last = len(found.frames["steps"]) - 1
    if not last:
        return ""
    # the last step is shown first: what the episode has made of the weights
    name = escaped(found.name)
    return (
        '<div class="player"><button type="button" class="play" aria-pressed="false">Play</button>'
        f'<label for="{name}-step">Step</label>'
        f'<input id="{name}-step" type="range" min="0" max="{last}" value="{last}" step="1">'
        f'<output for="{name}-step">{escaped(found.frames["steps"][-1])}</output></div>\n'
    )


def section(name: str, title: str, content: str, intro: str = "") -> str:
    """A part of the page with a heading."""
    lead = f'<p class="lead">{escaped(intro)}</p>\n' if intro else ""
    return (
        f'<section id="{escaped(name)}" aria-labelledby="{escaped(name)}-heading">\n'
        f'<h2 id="{escaped(name)}-heading">{escaped(title)}</h2>\n{lead}{content}</section>\n'
    )


def definitions(values: Mapping[str, str]) -> str:
    """Names and values, as cards."""
    cards = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value).replace('/', '/<wbr>')}</dd></div>\n"
        for name, value in values.items()
    )
    return f'<dl class="cards">{cards}</dl>\n'


def notes(texts: Sequence[str], kind: str = "note") -> str:
    """Remarks, each in a line of its own."""
    if not texts:
        return ""
    items = "".join(f"<li>{escaped(text)}</li>" for text in texts)
    return f'<ul class="{kind}s">{items}</ul>\n'
