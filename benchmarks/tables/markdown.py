"""Markdown tables, and pages whose tables are made from kept results: every figure there comes from a command.

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``; what was between them is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = dict[str, Any]
# marker → the result's file and what makes its text
Parts = dict[str, tuple[str, Callable[[Result], str]]]


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; every column but the first to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def source(result: Result) -> str:
    """The command under a table."""
    return f"`{result['command']}`"


def compared(measured: Result, extra: tuple[str, dict[str, float]] | None = None) -> str:
    """Contenders with medians, quartiles and what the first one is beside them."""
    heads = [f"{measured['name']} ({measured['unit']})", "median", "quartiles", "speedup of esd"]
    rows = []
    for figure in measured["figures"]:
        ratio = figure["against"]
        low, high = figure["against_quartiles"]
        if measured["more_is_better"]:
            ratio, low, high = 1 / ratio, 1 / high, 1 / low
        beside = f"{number(ratio)} × ({number(low)} to {number(high)})"
        rows.append(
            [
                figure["name"],
                number(figure["median"]),
                " to ".join(number(quartile) for quartile in figure["quartiles"]),
                "" if figure is measured["figures"][0] else beside,
            ]
        )
        if extra:
            rows[-1].append(number(extra[1][figure["name"]]))
    return table([*heads, extra[0]] if extra else heads, rows)


def compared_all(result: Result) -> str:
    """All tables of a result, and its command."""
    return "\n\n".join([*(compared(measured) for measured in result["tables"]), source(result)])


def filled(text: str, parts: Parts, results: Path) -> str:
    """A page's text with its tables made from a folder of results.

    Raises:
        SystemExit: if the page and ``parts`` don't name the same tables.
    """
    found = re.findall(r"<!-- ((?!end\b)[a-z -]+) -->", text)
    if sorted(found) != sorted(parts):
        raise SystemExit(f"the page has the tables {sorted(found)}, expected {sorted(parts)}")
    for name, (file, make) in parts.items():
        result = json.loads((results / f"{file}.json").read_text("utf-8"))
        begin = text.index(f"<!-- {name} -->\n") + len(f"<!-- {name} -->\n")
        text = f"{text[:begin]}{make(result)}\n{text[text.index('<!-- end -->', begin) :]}"
    return text
