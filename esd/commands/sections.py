"""Names with texts as sections of a table that fits the terminal, or 80 columns where there is none."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

LONGEST_NAME = 32  # a column of longer ones leaves too little for the texts, which stand below then
MOST_COLUMNS = 120
GAP = 2


def print_sections(sections: Mapping[str, Mapping[str, str]], end: str = "") -> None:
    """Print sections, each with its heading; NO_COLOR and a pipe switch styles off.

    Args:
        sections: by heading, names and what is to be said of each.
        end: a last line.
    """
    console = Console(highlight=False, soft_wrap=False)
    console.width = min(console.width, MOST_COLUMNS)
    parts: list[RenderableType] = []
    for heading, names in sections.items():
        parts += [Text(heading, style="bold"), Text(""), _section(names), Text("")]
    parts += [Text(end)] if end else []
    if parts and not end:
        parts.pop()
    with console.capture() as captured:
        console.print(Group(*parts))
    lines = (line.rstrip() for line in captured.get().splitlines())
    print("\n".join(lines))


def _section(names: Mapping[str, str]) -> RenderableType:
    width = max(map(len, names), default=0)
    if width <= LONGEST_NAME:
        table = Table.grid(padding=(0, GAP, 0, 0))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for name, text in names.items():
            table.add_row(Text(name), Text(text))
        return Padding(table, (0, 0, 0, GAP))
    lines: list[RenderableType] = []
    for name, text in names.items():
        lines.append(Padding(Text(name, style="cyan", overflow="fold"), (0, 0, 0, GAP)))
        if text:
            lines.append(Padding(Text(text, overflow="fold"), (0, 0, 0, 3 * GAP)))
    return Group(*lines)
