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
            help="The run's folder, or the file that esd export has made of it.",
            autocompletion=completion.runs,
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the file: safetensors (for esd itself), seed (kilobytes, for esd), mat (MATLAB, Octave), "
            "onnx or torch. Without it the suffix of --out decides.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write. By default the run's name with the format's suffix, in the working directory.",
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

    A file of the formats safetensors and seed can be used in place of the run's folder in esd eval, esd show,
    esd report, esd export and esd train --from.
    """

    def body() -> int:
        from esd.commands.console import print_error, print_json
        from esd.errors import UsageError
        from esd.export.formats import choose
        from esd.export.subject import load_subject
        from esd.run.files import absolute
        from esd.run.run_file import open_run
        from esd.run.trust import trust_of

        chosen, name = choose(format, out)
        folder = open_run(run, trust_of(trust))
        folder.require_run()
        path = out
        if path is None:
            stem = folder.place.stem if folder.place.is_file() else folder.place.name
            path = Path(f"{stem}{chosen.suffix}")
        place = absolute(path)
        if place == folder.place:
            raise UsageError(f"{path}: is the file that is exported; name another one with --out")
        if place.is_dir() or not place.parent.is_dir():
            raise UsageError(f"--out {path}: expected a file in a folder that exists")
        subject = load_subject(folder, str(checkpoint), print_error)
        chosen.writer()(place, subject, print_error)
        size = place.stat().st_size
        if as_json:
            words = subject.words()
            generation = subject.state.generation
            print_json(
                {
                    **words,
                    "generation": generation,
                    "format": name,
                    "file": str(path),
                    "bytes": size,
                }
            )
        else:
            print(
                f"{path}: {subject.checkpoint} checkpoint of {run}, generation {subject.state.generation}, "
                f"{subject.state.h.size:,} parameters, {size:,} bytes, for {chosen.text}"
            )
        return 0

    alone(body, as_json)
