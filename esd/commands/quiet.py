"""``--quiet``: what a user hears of a training that has nothing to complain about is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from esd.commands.console import Reporter
    from esd.training.reports import GenerationReport

QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print no progress and no summary, only warnings and errors, on stderr.",
    ),
]


class WarningsOnly:
    """Passes on to a reporter what is no progress."""

    def __init__(self, reporter: Reporter) -> None:
        """Speak through ``reporter``."""
        self._reporter = reporter

    def begin(self, run: Path) -> None:
        """Nothing: the folder is for the view of the progress."""

    def note(self, text: str) -> None:
        """Pass it on, unless it says only how the training proceeds."""
        from esd.training.reports import News

        if not isinstance(text, News):
            self._reporter.note(text)

    def generation(self, report: GenerationReport, generations: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._reporter.close()
