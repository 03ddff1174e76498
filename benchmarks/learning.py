"""What trained runs learned: a curve and tables for docs/results.md, from the runs' folders.

    python -m benchmarks.learning cartpole-hidden 'hebbian=runs/cartpole-hidden-s[0-9]*' 'static=runs/…'

Each group is a set of runs that differ in their seed alone, evaluated by ``esd eval``. What is read is kept in
benchmarks/results/learning/NAME.json; ``python -m benchmarks.learning`` alone makes figures and tables from there anew.
Holm's correction is over the variants of the table: name them by --variant, which takes patterns, too. Runs by which a
group's settings were chosen are counted if they are named by --trials GROUP=RUNS. --add keeps the seeds that were read
before, also on another machine, and compares all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import findings, memory, success, walker
from benchmarks.curves import draw
from benchmarks.joining import comparable, joined, what_runs_share
from benchmarks.measuring import RESULTS, ROOT, generations_of
from benchmarks.plots import FIGURES
from benchmarks.tables import groups
from benchmarks.tables.markdown import Parts, filled
from esd.commands.compare import as_json_table
from esd.errors import EsdError
from esd.evaluation import stored as evaluations
from esd.evaluation.comparison import compare
from esd.evaluation.groups import runs_of
from esd.run import metrics
from esd.run.folder import RunFolder

LEARNING = RESULTS / "learning"
PAGE = ROOT / "docs" / "results.md"
POINTS = 200  # of a curve that are kept


def _curve(lines: list[metrics.Line]) -> dict[str, list[float]]:
    """The center's return over environment steps and seconds, thinned to so many points."""
    points = [line for line in lines if line["center_return"] is not None]
    kept = points[:: -(-len(points) // POINTS) or 1] + points[-1:]
    return {
        "env_steps": [line["env_steps"] for line in kept],
        "seconds": [round(line["seconds"], 1) for line in kept],
        "center_return": [line["center_return"] for line in kept],
    }


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what each episode gave, what a variant's name means, and where its run lay."""
    kept = {key: value for key, value in evaluations.summary(found).items() if key != "run"}
    variants = [{k: v for k, v in own.items() if k != "world"} for own in kept["variants"]]
    return {**kept, "variants": variants}


def read_run(path: Path) -> dict[str, Any]:
    """One run as it is kept: how it was trained, its curve, and its evaluations without the single returns."""
    folder = RunFolder(path)
    lines, last = metrics.read(folder.metrics_file), folder.config()
    provenance = json.loads(folder.provenance_file.read_text("utf-8"))
    return {
        "seed": last.seed,
        "generations": generations_of(lines[-1]),
        "population": last.population,
        "reduce": last.variants.reduce,
        "target": last.run.target_return,
        "reached": _reached(lines, last.run.target_return),
        "env_steps": lines[-1]["env_steps"],
        "seconds": lines[-1]["seconds"],
        "core_seconds": lines[-1]["core_seconds"],
        "ranks": sorted({call["ranks"] for call in provenance}),
        "curve": _curve(lines),
        "evaluations": [_kept(found) for found in evaluations.read(folder)],
    }


def _reached(lines: list[metrics.Line], target: float | None) -> dict[str, float] | None:
    """What it took until the center's return reached the target; None if there is none, or it never did."""
    for line in lines if target is not None else ():
        if line["center_return"] is not None and line["center_return"] >= target:
            return {key: line[key] for key in ("generation", "env_steps", "seconds")}
    return None


def _counted(words: list[str]) -> dict[str, dict[str, float]]:
    """By group, how many runs were made before its settings were chosen, and their environment steps."""
    counted = {}
    for name, paths in map(runs_of, words):
        lines = [metrics.read(RunFolder(path).metrics_file) for path in paths]
        steps = sum(own[-1]["env_steps"] for own in lines if own)
        counted[name] = {"runs": len(paths), "env_steps": steps}
    return counted


def read(
    words: list[str], variants: Sequence[str] = (), trials: Sequence[str] = ()
) -> dict[str, Any]:
    """Groups as they are kept, and their comparison if there are several of several runs.

    Args:
        words: of the groups.
        variants: that are compared, names or patterns; none for all.
        trials: words of the runs by which a group's settings were chosen.
    """
    paths = dict(map(runs_of, words))
    arms = {
        name: sorted(map(read_run, own), key=lambda run: int(run["seed"]))
        for name, own in paths.items()
    }
    found = compare(words, variants) if comparable(arms) else None
    return {
        "words": words,
        "arms": arms,
        "comparison": as_json_table(found) if found else None,
        **what_runs_share(paths),
        "trials": _counted(list(trials)),
    }


def parts_of(results: Path) -> Parts:
    """The page's tables, by name, from a folder of results."""
    own = {module.FILE.stem: module.section for module in (memory, success, walker)}
    own["cheetah-reversed-second"] = groups.outcome  # of the same runs as “cheetah-reversed”
    names = sorted(path.stem for path in results.glob("*.json"))
    parts: Parts = {name: (name, own.get(name, groups.section)) for name in names}
    if findings.rows(results):
        parts["findings"] = (names[0], lambda _: findings.section(results))
    return parts


def _keep(file: Path, found: dict[str, Any], *, add: bool) -> None:
    """Write results, beside the seeds that the file has already if they are to be kept."""
    if add and file.exists():
        found = joined(json.loads(file.read_text("utf-8")), found)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{json.dumps(found, separators=(',', ':'))}\n", "utf-8")


def main() -> None:
    """Read runs, or make figures and tables of those read before."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("name", nargs="?", help="of the experiment")
    command_line.add_argument("groups", nargs="*", metavar="GROUP=RUNS", help="folders of runs")
    command_line.add_argument(
        "--variant", action="append", default=[], help="compare on this one; a name or a pattern"
    )
    command_line.add_argument(
        "--trials", action="append", default=[], metavar="GROUP=RUNS", help="count these trial runs"
    )
    command_line.add_argument(
        "--add", action="store_true", help="keep the seeds that were read before"
    )
    command_line.add_argument("--results", type=Path, default=LEARNING, help="[%(default)s]")
    command_line.add_argument("--figures", type=Path, default=FIGURES, help="[%(default)s]")
    command_line.add_argument("--page", type=Path, default=PAGE, help="[%(default)s]")
    arguments = command_line.parse_args()
    results: Path = arguments.results
    if arguments.name is not None:
        try:
            found = read(arguments.groups, arguments.variant, arguments.trials)
            _keep(results / f"{arguments.name}.json", found, add=arguments.add)
        except EsdError as error:
            raise SystemExit(f"benchmarks.learning: {error}") from None
    parts, text = parts_of(results), arguments.page.read_text("utf-8")
    for name, (file, make) in parts.items():
        if f"learning-{name}.svg" not in text:  # another table of the same runs
            continue
        kept = json.loads((results / f"{file}.json").read_text("utf-8"))
        if make is groups.section:
            draw(kept["arms"], name, arguments.figures)
        elif make is walker.section:
            walker.draw(kept, arguments.figures / f"learning-{name}.svg")
    arguments.page.write_text(filled(text, parts, results), "utf-8")


if __name__ == "__main__":
    main()
