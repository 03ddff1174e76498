"""A trained network in kilobytes: the size of ``esd export --format seed`` and the return of what is rebuilt from it.

    python -m benchmarks.kilobytes RUN… --generations 100 200 300 --ranks 2 --json benchmarks/results/kilobytes.json

Of each run, the center before these generations is written as a seed file. ``esd eval`` rebuilds it from the file and
plays test episodes. A run whose journal doesn't reach a generation has no row for it. The size of the same h as float32
numbers stands beside it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import call_esd, parser, write
from esd.errors import EsdError
from esd.export import seed
from esd.export.subject import Subject
from esd.run.folder import RunFolder

BYTES_OF_A_NUMBER = 4


def files_of(run: Path, generations: list[int], into: Path) -> dict[int, tuple[Path, int]]:
    """Seed files of a run's centers, each with |h|, by generation; those that the run hasn't reached are left out."""
    folder = RunFolder(run)
    folder.require_run()
    config = folder.config()
    journal = folder.journal(config)
    files = {}
    for generation in generations:
        if generation <= journal.next_generation:
            state = folder.state_at(generation, config, journal)
            file = into / f"{run.name}-{generation}.seed"
            seed.write(file, Subject(folder, config, state, "last"), print)
            files[generation] = file, state.h.size
    return files


def rows(run: Path, generations: list[int], words: list[str], ranks: int) -> list[dict[str, Any]]:
    """A row for each generation."""
    found = []
    with tempfile.TemporaryDirectory() as into:
        for generation, (file, size) in files_of(run, generations, Path(into)).items():
            told = json.loads(call_esd(["eval", str(file), "--json", *words], ranks))
            found.append(
                {
                    "run": run.name,
                    "generation": generation,
                    "parameters": size,
                    "bytes": file.stat().st_size,
                    "bytes_of_numbers": BYTES_OF_A_NUMBER * size,
                    **{
                        key: told[key] for key in ("env", "seed", "episodes", "mean", "interval_95")
                    },
                }
            )
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Write and evaluate them all."""
    command_line = parser("kilobytes", __doc__)
    command_line.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    command_line.add_argument("--generations", type=int, nargs="+", required=True)
    command_line.add_argument("--episodes", type=int, default=100, help="[%(default)s]")
    command_line.add_argument("--seed", type=int, default=0, help="of test episodes [%(default)s]")
    command_line.add_argument("--env", help="another environment to evaluate in")
    command_line.add_argument("--ranks", type=int, default=1, help="[%(default)s]")
    arguments = command_line.parse_args()
    episodes = 2 if arguments.quick else arguments.episodes
    words = ["--episodes", str(episodes), "--seed", str(arguments.seed)]
    words += ["--env", arguments.env] if arguments.env else []
    try:
        found = [
            row
            for run in arguments.runs
            for row in rows(run, arguments.generations, words, arguments.ranks)
        ]
    except EsdError as error:
        raise SystemExit(str(error)) from None
    write(arguments, "kilobytes", {"rows": found})


if __name__ == "__main__":
    main()
