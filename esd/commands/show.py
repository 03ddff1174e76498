"""``esd show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands import completion
from esd.commands.running import Trusted, alone

if TYPE_CHECKING:
    from esd.config.settings import Config
    from esd.evolution.state import RunState
    from esd.run.folder import RunFolder


def show(
    run: Annotated[
        Path,
        typer.Argument(
            help="The run's folder or exported file, or a folder of runs.",
            autocompletion=completion.runs,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the metrics of all generations as CSV.")
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Show the live view of esd train until the run is done. Without a terminal, print one line per "
            "generation.",
        ),
    ] = False,
    episode: Annotated[
        bool,
        typer.Option(
            "--episode",
            help="Also run one test episode with the last parameters, to check whether units saturate or weights "
            "grow.",
        ),
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Also print the settings that have their default.")
    ] = False,
    trust: Trusted = False,
    generation: Annotated[
        int | None,
        typer.Option(
            help="Rebuild the state before this generation from the journal and show it, with what led to it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the progress of a run: generations, best and last returns, and the hash of its parameters h.

    If something looks wrong, a warning names it and suggests what to try. For a folder of runs, one line per run is
    printed, with the state of the SLURM job if the run was submitted with esd submit. Your own code is imported only
    with --episode.
    """

    def body() -> int:
        from esd.commands.follow import follow as follow_run
        from esd.commands.runs_table import is_folder_of_runs
        from esd.errors import UsageError
        from esd.run.run_file import is_file, open_run
        from esd.run.trust import Trust

        if sum((as_json, as_csv, follow)) > 1:
            raise UsageError("--json, --csv and --follow cannot be combined; use one of them")
        if generation is not None and (as_csv or follow):
            raise UsageError(
                f"--generation {generation}: cannot be combined with --csv and --follow, which show all "
                "generations; use it alone or with --json"
            )
        if episode and (as_csv or follow or generation is not None):
            raise UsageError(
                "--episode: uses the last parameters; leave out --csv, --follow and --generation"
            )
        if is_folder_of_runs(run):
            if as_csv or follow or episode or generation is not None:
                raise UsageError(
                    f"{run}: is a folder of runs; --csv, --follow, --episode and --generation need the folder of "
                    "one run"
                )
            _print_runs(run, as_json)
            return 0
        asked = Trust.YES if trust else Trust.ASK
        folder = open_run(run, asked if episode else Trust.NEVER)  # only an episode takes its code
        folder.require_run()
        if follow and is_file(folder):
            raise UsageError(
                f"--follow: {run} is an exported file, which does not change; use the run's folder"
            )
        if as_csv:
            _print_csv(folder)
        elif follow:
            follow_run(folder)
        else:
            _print_state(folder, generation, as_json, episode, settings)
        return 0

    alone(body, as_json)


def _print_runs(path: Path, as_json: bool) -> None:
    """A line for each run of a folder."""
    from esd.commands.console import print_error, print_json
    from esd.commands.runs_table import print_rows, rows_of

    rows = rows_of(path, print_error)
    if as_json:
        print_json({"folder": str(path), "runs": rows})
    else:
        print_rows(rows)


def _describe(folder: RunFolder, generation: int | None) -> dict[str, Any]:
    """Everything about a run that has a number or a name."""
    from esd.commands.console import print_error
    from esd.config.tables import to_table
    from esd.errors import UntrustedError
    from esd.run import metrics
    from esd.training.diagnosis import Course, diagnose

    config = folder.config()
    state = None
    if generation is not None:
        state = folder.state_at(generation, config, folder.journal(config))
    else:
        try:
            state = folder.last_state(config, print_error)
        except UntrustedError as error:
            print_error(str(error))
    lines = folder.metrics_lines(config, print_error)
    if generation is not None:  # what led to this state; a line of the center alone has no update
        lines = [
            own for own in lines if own["generation"] < generation + (own["return_mean"] is None)
        ]
    last = lines[-1] if lines else {}
    # the last line of a finished run is the center's alone
    members = next((line for line in reversed(lines) if line["return_mean"] is not None), {})
    with_center = [line for line in lines if line["center_return"] is not None]
    centers = [line["center_return"] for line in with_center]
    best_return = (
        folder.best_center_return(config, lines)
        if generation is None
        else metrics.best_return(config, lines)
    )
    done = folder.done(print_error)
    h_size = None if state is None else int(state.h.size)
    return {
        "run": str(folder.path),
        "generation": _generation(folder, config) if state is None else state.generation,
        "generations": config.generations,
        "finished": done is not None,
        "reason": done and done["reason"],
        **_of_state(state, last),
        "best_center_return": best_return,
        "last_center_return": centers[-1] if centers else None,
        "last_center_returns": _by_variant(with_center[-1]) if with_center else {},
        "last_return_mean": members.get("return_mean"),
        "last_return_max": members.get("return_max"),
        "last_return_min": members.get("return_min"),
        "env_steps": last.get("env_steps", 0),
        "episodes": last.get("episodes", 0),
        "seconds": last.get("seconds", 0.0),
        "core_seconds": last.get("core_seconds", 0.0),
        "findings": [
            finding.as_json() for finding in diagnose(Course.of_lines(lines, config, h_size))
        ],
        "config": to_table(config),
    }


def _generation(folder: RunFolder, config: Config) -> int:
    """How many updates of h are in the journal."""
    return folder.generation(config)


def _of_state(state: RunState | None, last: dict[str, Any]) -> dict[str, Any]:
    """What a state is; without it what the last line of the metrics says."""
    if state is None:
        sigmas = {name: last.get(name) for name in ("sigma", "sigma_min", "sigma_max")}
        return {"h_size": None, "h_sha256": None, "state_sha256": None, **sigmas}
    return {
        "h_size": int(state.h.size),
        "h_sha256": state.h_sha256(),
        "state_sha256": state.sha256(),
        "sigma": state.evolution.sigma,
        "sigma_min": state.evolution.sigma_range[0],
        "sigma_max": state.evolution.sigma_range[1],
    }


def _by_variant(line: dict[str, Any]) -> dict[str, float | None]:
    """The center's return on each variant, from a line of the metrics."""
    prefix = "center_return."
    return {key.removeprefix(prefix): mean for key, mean in line.items() if key.startswith(prefix)}


def _print_state(
    folder: RunFolder,
    generation: int | None,
    as_json: bool,
    episode: bool = False,
    all_settings: bool = False,
) -> None:
    from esd.commands.console import print_json
    from esd.config.tables import flatten, not_default
    from esd.errors import printable

    description = _describe(folder, generation)
    if episode:
        from esd.evaluation.inside import look_inside

        inside = look_inside(folder)
        found = description.pop("findings") + [finding.as_json() for finding in inside.findings()]
        settings = description.pop("config")
        description |= {**inside.as_json(), "findings": found, "config": settings}
    if as_json:
        print_json(description)
        return
    of_variants = description.pop("last_center_returns")
    findings = description.pop("findings")
    if "objective" in description["config"]:  # a step and an episode of one are an evaluation
        description["evaluations"] = description.pop("episodes")
        del description["env_steps"]
    rows = {key.replace("_", " "): value for key, value in description.items() if key != "config"}
    rows |= {f"last center return, {name}": mean for name, mean in of_variants.items()}
    listed = flatten(description["config"])
    chosen = set(listed) if all_settings else not_default(folder.config())
    if rows["sigma min"] == rows["sigma max"]:
        del rows["sigma min"], rows["sigma max"]
    for name, value in listed.items():
        if name == "env.variants" and value:
            rows |= {f"variant {number + 1}": _said(v) for number, v in enumerate(value)}
        elif name in chosen:
            rows[name] = value
    rows = {printable(name): value for name, value in rows.items()}
    width = max(map(len, rows))
    for name, value in rows.items():
        shown = (
            "–" if value is None else f"{value:,.6g}" if isinstance(value, float) else str(value)
        )
        print(f"{name:{width}}  {printable(shown)}")
    if others := len(set(listed) - chosen):
        print(f"{others} other settings have their default; --settings prints them, too")
    for finding in findings:
        print(f"warning: {finding['text']}")


def _said(variant: dict[str, Any]) -> str:
    """A variant in a line: its name, whether training saw it, and what it changes."""
    changes = {key: variant[key] for key in ("id", "kwargs", "wrappers") if variant[key]}
    words = ", ".join(f"{key} = {value}" for key, value in changes.items())
    return (
        f"{variant['name']} ({'unseen' if variant['unseen'] else 'seen'}): {words or 'no change'}"
    )


def _print_csv(folder: RunFolder) -> None:
    import csv
    import sys

    from esd.commands.console import print_error
    from esd.errors import printable

    lines = folder.metrics_lines(folder.config(), print_error)
    names = list(dict.fromkeys(name for line in lines for name in line)) or ["generation"]
    rows: list[list[Any]] = [names, *([line.get(name) for name in names] for line in lines)]
    writer = csv.writer(sys.stdout)
    for row in rows:  # a stranger's file may hold anything
        writer.writerow([printable(cell) if isinstance(cell, str) else cell for cell in row])
