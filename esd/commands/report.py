"""``esd report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from esd.commands import completion
from esd.commands.literal_help import LiteralCommand
from esd.commands.running import alone
from esd.errors import EXIT_USAGE


class ReportCommand(LiteralCommand):
    """``esd report``, which answers the words of older versions, ``esd report compare``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the new command instead of a wrong option."""
        if args[:1] == ["compare"] and not Path("compare").is_dir():
            from esd.commands.console import print_error

            print_error("esd report compare is now esd compare, with the same arguments")
            raise typer.Exit(EXIT_USAGE)
        remaining: list[str] = super().parse_args(ctx, args)
        return remaining


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, folders of runs, or name=PATTERN. Runs that differ only in their seed form a group.",
            metavar="RUN…",
            autocompletion=completion.runs_or_groups,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write.", metavar="FILE.html")] = Path(
        "report.html"
    ),
    video: Annotated[
        list[Path] | None,
        typer.Option(
            help="A video to embed (MP4, WebM or GIF). Can be repeated. Videos in the run folders are embedded anyway.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    trace: Annotated[
        list[Path] | None,
        typer.Option(
            help="A trace of esd eval --trace to show. Can be repeated. Traces in the run folders are shown anyway.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a page about one or more runs: curves, evaluations, comparisons, evolved parameters, episodes, timing.

    The page is one HTML file that needs no network. The code of runs is not imported. Needs pip install
    'esd-mpi[report]'.
    """

    def body() -> int:
        from esd.commands.console import print_error, print_json
        from esd.errors import UsageError
        from esd.report.page import is_report, page
        from esd.report.runs import read_arms
        from esd.run.files import absolute, write_atomically

        place = absolute(out)
        if place.is_dir() or not place.parent.is_dir():
            raise UsageError(f"--out {out}: expected a file in a folder that exists")
        if place.exists() and not is_report(place):
            raise UsageError(f"--out {out}: exists and is not a report; use another file")
        warnings: list[str] = []
        arms = read_arms(runs, warnings.append)
        text = page(arms, video or [], trace or [], warnings)
        for warning in warnings:
            print_error(warning)
        data = text.encode("utf-8", "replace")  # a file's name may be no Unicode
        write_atomically(place, data)
        if as_json:
            groups = [
                {"name": arm.name, "runs": [str(run.folder.path) for run in arm.runs]}
                for arm in arms
            ]
            print_json(
                {"out": str(out), "bytes": len(data), "groups": groups, "warnings": warnings}
            )
        else:
            count = sum(len(arm.runs) for arm in arms)
            print(
                f"wrote {out} ({len(data) / 1e6:.1f} MB): {count} run{'s' * (count != 1)}; open it in a browser"
            )
        return 0

    alone(body, as_json)
