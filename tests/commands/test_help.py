"""Help texts and options that all commands share."""

from __future__ import annotations

from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from esd.cli import app


def commands() -> dict[str, Any]:
    """Every command by its words, as the command line has it."""
    found: dict[str, Any] = {}

    def add(group: Any, words: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                add(command, f"{words}{name} ")
            else:
                found[f"{words}{name}"] = command

    add(get_command(app), "")
    return found


def test_paragraphs_of_help_texts_wrap_at_the_terminals_width() -> None:
    found = commands()
    assert len(found) > 9
    for name, command in found.items():
        for paragraph in command.help.split("\n\n"):
            assert "\n" not in paragraph, name


def test_every_command_that_prints_facts_can_print_json() -> None:
    for name, command in commands().items():
        flags = {flag for parameter in command.params for flag in parameter.opts}
        if name != "launch":  # it passes on what esd train prints
            assert "--json" in flags, name


def test_every_argument_and_option_has_a_text() -> None:
    for name, command in commands().items():
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text, (name, parameter.name)
            assert text.endswith((".", ")")), (name, parameter.name)


def test_help_is_printed_as_it_is_written() -> None:
    runner = CliRunner(env={"COLUMNS": "2000", "TERM": "dumb"})
    begins = {name: command.help.split("\n\n")[0] for name, command in commands().items()}
    shown = runner.invoke(app, ["--help"]).stdout
    assert all(text in shown for text in begins.values())
    for name, command in commands().items():
        shown = runner.invoke(app, [name, "--help"]).stdout
        texts = [*command.help.split("\n\n"), *(parameter.help for parameter in command.params)]
        for text in texts:
            assert text in shown, name
    assert "pip install 'esd-mpi[report]'" in runner.invoke(app, ["report", "--help"]).stdout
