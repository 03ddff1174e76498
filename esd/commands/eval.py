"""``esd eval``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands.running import on_ranks

if TYPE_CHECKING:
    from esd.evaluate import Evaluation
    from esd.mpi.comm import Communicator


class WhichCheckpoint(enum.StrEnum):
    """Which h of a run."""

    LAST = "last"
    BEST = "best"


def evaluate(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    env: Annotated[
        str | None,
        typer.Option(
            help="Another environment of the same sizes.", metavar="ID", show_default=False
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Test episodes.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the test stream, 0 or more.", min=0)] = 0,
    checkpoint: Annotated[
        WhichCheckpoint,
        typer.Option(help="The best center by its selection episodes, or the last one."),
    ] = WhichCheckpoint.BEST,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Evaluate a run on new episodes, which neither training nor the choice of the best has seen.

    The interval is the 95 % interval of the mean over the episodes of this one run: episode noise, not the spread
    over training runs. The result is also written to the run's folder, under evaluations/.
    """
    import dataclasses

    from esd.config import Config
    from esd.console import print_error
    from esd.evaluate import evaluate as play
    from esd.folder import RunFolder
    from esd.mpi.comm import agreement
    from esd.state import RunState

    def load(folder: RunFolder, loud: bool) -> tuple[Config, RunState, WhichCheckpoint]:
        folder.require_run()
        config = folder.config()
        which = checkpoint
        if (
            which is WhichCheckpoint.BEST
            and not folder.best_file.exists()
            and not config.run.center_every
        ):
            which = WhichCheckpoint.LAST
        if which is WhichCheckpoint.BEST:
            state = folder.load_checkpoint(folder.best_file, config).state
        else:
            path = next(iter(folder.checkpoint_files()), None)
            if path is not None:
                folder.load_checkpoint(path, config)
            state = folder.last_state(config, print_error if loud else lambda text: None)
        if env is not None:
            config = dataclasses.replace(config, env=dataclasses.replace(config.env, id=env))
        return config, state, which

    def body(comm: Communicator) -> int:
        folder = RunFolder(run)
        with agreement(comm, "reading the run"):
            config, state, which = load(folder, comm.rank == 0)
        result = play(comm, config, state, episodes, seed)
        with agreement(comm, "writing the evaluation"):
            if comm.rank == 0:
                _report(folder, config.env.id, which, state, seed, result, as_json)
        return 0

    on_ranks(body)


def _report(
    folder: Any,
    env: str,
    which: WhichCheckpoint,
    state: Any,
    seed: int,
    result: Evaluation,
    as_json: bool,
) -> None:
    """Write the evaluation to the run's folder and tell it."""
    import json

    from esd.console import print_json
    from esd.files import write_atomically

    low, high = result.interval
    n = int(result.returns.size)
    data: dict[str, Any] = {
        "run": str(folder.path),
        "env": env,
        "checkpoint": str(which),
        "generation": state.generation,
        "h_sha256": state.h_sha256(),
        "seed": seed,
        "episodes": n,
        "mean": result.mean,
        "std": result.std,
        "interval_95": [low, high],
        "interval_is": "episode noise of one run",
        "steps": result.steps,
    }
    folder.evaluations.mkdir(exist_ok=True)
    name = (
        f"{which}-g{state.generation}-{env.replace('/', '_').replace(':', '_')}-s{seed}-n{n}.json"
    )
    stored = json.dumps({**data, "returns": result.returns.tolist()}, indent=1).encode() + b"\n"
    write_atomically(folder.evaluations / name, stored)
    if as_json:
        print_json(data)
    else:
        print(
            f"{which} checkpoint (generation {state.generation}) on {env}, {n} test episodes: mean {result.mean:.2f}, "
            f"std {result.std:.2f}, 95 % interval {low:.2f} to {high:.2f} (episode noise of one run)"
        )
