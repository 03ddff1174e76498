"""``esd init``."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from esd.commands import completion
from esd.commands.running import alone


class Kind(enum.StrEnum):
    """What a user brings."""

    ENVIRONMENT = "environment"
    OBJECTIVE = "objective"
    POLICY = "policy"


def init(
    kind: Annotated[
        str,
        typer.Argument(
            help="What to write: environment, objective (a function to optimize) or policy.",
            metavar="KIND",
            show_default=False,
            autocompletion=lambda incomplete: [k for k in Kind if k.startswith(incomplete)],
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of the files and of the Python module. Default: my_environment, my_objective or my_policy.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Use this registered environment, such as Pendulum-v1. With KIND environment, no Python file is "
            "written.",
            metavar="ID",
            show_default=False,
            autocompletion=completion.environments,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a commented experiment for your own environment, objective or policy into this folder.

    An experiment is a TOML file, NAME.toml; the code that it names is in NAME.py. Both are working examples to change:
    esd train NAME.toml starts at once. Existing files are never overwritten.

    Example: esd init environment my_robot
    """

    def body() -> int:
        from esd.commands.console import print_json
        from esd.commands.starting_files import write
        from esd.errors import UsageError, shown

        if kind not in list(Kind):
            raise UsageError(f"{shown(kind)}: expected environment, objective or policy")
        written = write(kind, name, env)
        train = f"esd train {written[-1]}"
        if as_json:
            print_json({"kind": str(kind), "files": written, "command": train})
            return 0
        for file in written:
            print(f"wrote {file}")
        print(f"train it: {train}")
        return 0

    alone(body, as_json)
