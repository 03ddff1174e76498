"""``esd export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esd.commands import completion
from esd.commands.eval import WhichCheckpoint
from esd.commands.running import Trusted, Verbose, alone


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="The run's folder, or a file written by esd export.",
            autocompletion=completion.runs,
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the file: safetensors (for esd itself), seed (kilobytes, for esd), mat (MATLAB, "
            "Octave), onnx or torch. Default: the format of the suffix of --out.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write. Default: the run's name with the suffix of the format, in the working "
            "directory.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        WhichCheckpoint, typer.Option(help="Export the best checkpoint or the last one.")
    ] = WhichCheckpoint.BEST,
    trust: Trusted = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write a run to one file: for another machine, for MATLAB or Octave, for ONNX Runtime, or for PyTorch.

    A safetensors or seed file can be used instead of the run's folder in esd eval, esd show, esd report, esd export and
    esd train --from.
    """

    def body() -> int:
        from esd.commands.console import print_error, print_json
        from esd.export.exporting import export_run
        from esd.run.run_file import open_run
        from esd.run.trust import trust_of

        folder = open_run(run, trust_of(trust))
        done = export_run(folder, out, format, str(checkpoint), print_error)
        state = done.subject.state
        if as_json:
            written = {"format": done.name, "file": str(done.path), "bytes": done.bytes}
            print_json({**done.subject.words(), "generation": state.generation, **written})
        else:
            print(
                f"{done.path}: {done.subject.checkpoint} checkpoint of {run}, generation {state.generation}, "
                f"{state.h.size:,} parameters, {done.bytes:,} bytes, for {done.format.text}"
            )
        return 0

    alone(body, as_json)
