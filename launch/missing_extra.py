"""Print the extra of esd-mpi that a call of ``esd train`` needs and this environment lacks; nothing if all is there.

quickstart.sh asks with its own arguments before it starts the ranks. The environment and the policy, or the objective,
are built as the ranks would build them, so there is no list to keep up. Whatever else is wrong, ``esd train`` will say.
"""

from __future__ import annotations

import contextlib
import sys

from typer.main import get_command

from esd.cli import app
from esd.errors import MissingPackageError
from esd.loggers.all import require
from esd.problems.make import make_problem
from esd.training.plan import TrainRequest, make_plan


def missing_extra(arguments: list[str]) -> str:
    """The first extra that is missing, or ""."""
    try:
        command = get_command(app).commands["train"]
        given = command.make_context("esd train", arguments).params
        request = TrainRequest(
            given["experiment"],
            given["run"],
            given["settings"] or (),
            given["fresh"],
            given["yes"],
            given["start_from"],
        )
        config = make_plan(request, lambda line: None).config
        require(config.run.loggers)
        make_problem(config).close()
    except MissingPackageError as error:
        return error.extra
    except Exception:
        return ""
    return ""


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints is no extra
        extra = missing_extra(sys.argv[1:])
    print(extra)
