"""Help texts as they are written: Rich would take ``[report]`` for markup, and leave it out."""

from __future__ import annotations

import copy
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from esd.commands.hints import WithHints


class LiteralCommand(WithHints):
    """A command whose help is printed without reading markup in it: every command of esd."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        TyperCommand.format_help(_escaped(self), ctx, formatter)


class LiteralGroup(TyperGroup):
    """The same for a group, which shows the help of its commands, too."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        shown = _escaped(self)
        shown.commands = {name: _escaped(command) for name, command in self.commands.items()}
        TyperGroup.format_help(shown, ctx, formatter)


def _escaped(command: Any) -> Any:
    """A copy whose texts come out of Rich as they are; completion and the documentation read the original."""
    shown = copy.copy(command)
    for name in ("help", "short_help", "epilog"):
        text = getattr(shown, name, None)
        setattr(shown, name, escape(text) if text else text)
    shown.params = [_with_escaped_help(parameter) for parameter in command.params]
    return shown


def _with_escaped_help(parameter: Any) -> Any:
    shown = copy.copy(parameter)
    shown.help = escape(shown.help) if shown.help else shown.help
    return shown
