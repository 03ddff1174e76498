"""What trained runs learned: a curve and tables for docs/results.md, from the runs' folders.

    python -m benchmarks.learning cartpole-hidden 'hebbian=runs/cartpole-hidden-s[0-9]*' 'static=runs/…'

Each group is a set of runs that differ in their seed alone, evaluated by ``esd eval``. What is read is kept in
benchmarks/results/learning/NAME.json; ``python -m benchmarks.learning`` alone makes figures and tables from there anew.
Holm's correction is over the variants of the table: name them by --variant, which takes patterns, too. Runs by which an
group's settings were chosen are counted if they are named by --trials GROUP=RUNS. --add keeps the seeds that were read
before, also on another machine, and compares all.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import findings, memory, success, walker
from benchmarks.freezing import FREEZE, frozen
from benchmarks.joining import joined, what_runs_share
from benchmarks.measuring import RESULTS, ROOT, wilson
from benchmarks.plots import FIGURES, OURS, THEIRS, as_svg, save
from benchmarks.tables.markdown import Parts, filled, table
from esd.commands.compare import as_json_table
from esd.errors import EsdError
from esd.evaluation import stored as evaluations
from esd.evaluation.comparison import compare
from esd.evaluation.groups import runs_of
from esd.run import metrics
from esd.run.folder import RunFolder

LEARNING = RESULTS / "learning"
PAGE = ROOT / "docs" / "results.md"
COLORS = (OURS, "#c1666b", "#6b8f3c", THEIRS)
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
        "generations": lines[-1]["generation"],
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
    groups = {
        name: sorted(map(read_run, paths), key=lambda run: int(run["seed"]))
        for name, paths in map(runs_of, words)
    }
    several = len(groups) > 1 and min(map(len, groups.values())) > 1
    found = compare(words, variants) if several else None
    return {
        "words": words,
        "arms": groups,
        "comparison": as_json_table(found) if found else None,
        **(what_runs_share(found) if found else {}),
        "trials": _counted(list(trials)),
    }


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120.0 else f"{seconds / 60.0:.0f} min"


def _success(runs: list[dict[str, Any]]) -> str:
    """How many runs have reached their target, and after how many steps in the median."""
    found = [run["reached"]["env_steps"] for run in runs if run.get("reached")]
    low, high = wilson(len(found), len(runs))
    after = f", after {statistics.median(found) / 1e6:.1f} M steps" if found else ""
    return f"{len(found)} of {len(runs)} ({low:.0%} to {high:.0%}){after}"


def training(groups: dict[str, Any], trials: dict[str, Any]) -> str:
    """What each group was trained with, how often it reached its target, and what its settings took to choose."""
    targets = any(run.get("target") is not None for runs in groups.values() for run in runs)
    rows = []
    for name, runs in groups.items():
        generations = sorted({run["generations"] for run in runs})
        span = " to ".join(str(n) for n in dict.fromkeys((generations[0], generations[-1])))
        rows.append(
            [
                name,
                ", ".join(str(run["seed"]) for run in runs),
                f"{span} × {runs[0]['population']}",
                f"{statistics.mean(run['env_steps'] for run in runs) / 1e6:.1f} M",
                _time(statistics.mean(run["seconds"] for run in runs)),
                _time(statistics.mean(run["core_seconds"] for run in runs)),
            ]
        )
        if targets:
            rows[-1].append(_success(runs))
        if trials:
            own = trials.get(name, {"runs": 0, "env_steps": 0})
            rows[-1].append(f"{own['runs']} ({own['env_steps'] / 1e6:.1f} M steps)")
    heads = [
        "group",
        "seeds",
        "generations × population",
        "environment steps",
        "wall time",
        "core time",
        *["reached the target (95 % interval)"] * targets,
        *["trial runs"] * bool(trials),
    ]
    return table(heads, rows)


def outcome(result: dict[str, Any]) -> str:
    """What each group reaches on each variant in test episodes, and how sure the difference is."""
    found = result["comparison"]
    if found is None:
        return "\n\n".join(
            _of_one(group, run) for group, runs in result["arms"].items() for run in runs
        )
    first, *others = result["arms"]
    heads = ["variant", "", first]
    for name in others:
        heads += [name, f"− {first}", "p (Holm)"]
    rows = []
    for variant in found["variants"]:
        shown = {n: f"{own['mean']:.1f} ± {own['std']:.1f}" for n, own in variant["groups"].items()}
        row = [variant["name"] or "all", "seen" if variant["seen"] else "unseen", shown[first]]
        for name in others:
            test = variant["tests"][name]
            row += [shown[name], f"{test['difference']:+.1f}", f"{test['p_holm']:.2g}"]
        rows.append(row)
    described = found["conditions"]["described"]
    return f"{table(heads, rows)}\n\nMean ± standard deviation over training runs; {described}."


def _of_one(group: str, run: dict[str, Any]) -> str:
    """One run's evaluations: what it reached, and its episode noise."""
    rows = []
    for found in run["evaluations"]:
        for variant in found["variants"]:
            low, high = variant["interval_95"]
            rows.append(
                [
                    f"{group}, seed {run['seed']}",
                    f"{found['env']}{', ' * bool(variant['name'])}{variant['name']}",
                    f"{found['checkpoint']}, generation {found['generation']}",
                    str(found["episodes"]),
                    f"{variant['mean']:.1f} ± {variant['std']:.1f}",
                    f"{low:.1f} to {high:.1f}",
                ]
            )
    heads = [
        "run",
        "environment",
        "checkpoint",
        "episodes",
        "mean return ± standard deviation over episodes",
        "95 % interval (episode noise)",
    ]
    return table(heads, rows)


def references(result: dict[str, Any]) -> str:
    """What random rules, and plasticity frozen in tests alone, give on the variants of the table; no own groups.

    Means over the runs of a group; only of evaluations on all of these variants that all of its runs have.
    """
    if result["comparison"] is None:
        return ""
    names = [variant["name"] for variant in result["comparison"]["variants"]]
    rows = []
    for group, runs in result["arms"].items():
        found: dict[str, list[dict[str, float]]] = {}
        for run in runs:
            for label, means in _untrained(run).items():
                found.setdefault(label, []).append(means)
        rows += [
            [f"{group}, {label}", *(f"{statistics.mean(m[n] for m in own):.1f}" for n in names)]
            for label, own in found.items()
            if len(own) == len(runs) and all(set(names) <= set(means) for means in own)
        ]
    return (
        table(["changed in the evaluation only", *(name or "all" for name in names)], rows)
        if rows
        else ""
    )


def _untrained(run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By what was changed in a test, a run's means on the variants."""
    found: dict[str, dict[str, float]] = {}
    for evaluation in sorted(run["evaluations"], key=lambda e: int(e["generation"])):
        settings = evaluation["settings"]
        if evaluation["rules"] == "random" and not settings:
            label = "random rules"
        elif evaluation["rules"] == "evolved" and settings.keys() == {FREEZE}:
            label = f"frozen after {settings[FREEZE]} steps"
        else:
            continue
        means = {v["name"]: v["mean"] for v in evaluation["variants"] if v["mean"] is not None}
        found[label] = {**found.get(label, {}), **means}
    return found


def section(result: dict[str, Any]) -> str:
    """The tables of an experiment."""
    found = [
        training(result["arms"], result.get("trials", {})),
        outcome(result),
        references(result),
    ]
    return "\n\n".join(part for part in found if part)


def draw(groups: dict[str, Any], name: str, folder: Path) -> None:
    """The center's return over environment steps, and over the step after which plasticity was frozen in tests."""
    as_svg()
    import matplotlib.pyplot as plt

    tests = {group: found for group, runs in groups.items() if len(found := frozen(runs)) > 1}
    figure, panels = plt.subplots(
        1,
        1 + bool(tests),
        figsize=(8.5 if tests else 6.5, 3.0),
        layout="constrained",
        squeeze=False,
    )
    _draw_training(panels[0, 0], groups)
    for color, (group, found) in zip(COLORS, tests.items(), strict=False):
        _draw_frozen(panels[0, 1], found, group, color)
    save(figure, folder / f"learning-{name}.svg")


def _draw_training(axes: Any, groups: dict[str, Any]) -> None:
    """A thin line per run, a thick one for the group's median."""
    import numpy as np

    for color, (group, runs) in zip(COLORS, groups.items(), strict=False):
        curves = [run["curve"] for run in runs]
        for curve in curves:
            millions = np.array(curve["env_steps"]) / 1e6
            axes.plot(millions, curve["center_return"], color=color, lw=0.5, alpha=0.7)
        end = max(curve["env_steps"][-1] for curve in curves)
        steps = np.linspace(max(curve["env_steps"][0] for curve in curves), end, 300)
        # a run that ended early, because it had reached its target, keeps its last return
        returns = [np.interp(steps, curve["env_steps"], curve["center_return"]) for curve in curves]
        label = f"{group} ({len(runs)} run{'s' * (len(runs) > 1)}, median)"
        axes.plot(steps / 1e6, np.median(returns, axis=0), color=color, lw=2.0, label=label)
    axes.set_xlabel("environment steps, millions")
    axes.set_ylabel("center's return in training")
    axes.legend(fontsize=8)


def _draw_frozen(axes: Any, found: dict[int, list[float]], group: str, color: str) -> None:
    """Each run a thin line, their mean a thick one; never frozen is the last point."""
    import numpy as np

    steps = [*sorted(set(found) - {0}), 0]
    places = np.arange(len(steps))
    runs = np.array([found[step] for step in steps])
    axes.plot(places, runs, color=color, lw=0.5, alpha=0.7)
    axes.plot(places, runs.mean(axis=1), "-o", color=color, lw=2.0, ms=4, label=f"{group}, mean")
    axes.set_xticks(places, [str(step or "never") for step in steps])
    axes.set_xlabel("step after which plasticity is frozen in a test episode")
    axes.set_ylabel("return in test episodes")
    axes.legend(fontsize=8)


def parts_of(results: Path) -> Parts:
    """The page's tables, by name, from a folder of results."""
    own = {module.FILE.stem: module.section for module in (memory, success, walker)}
    names = sorted(path.stem for path in results.glob("*.json"))
    parts: Parts = {name: (name, own.get(name, section)) for name in names}
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
    parts = parts_of(results)
    for name, (file, make) in parts.items():
        kept = json.loads((results / f"{file}.json").read_text("utf-8"))
        if make is section:
            draw(kept["arms"], name, arguments.figures)
        elif make is walker.section:
            walker.draw(kept, arguments.figures / f"learning-{name}.svg")
    arguments.page.write_text(filled(arguments.page.read_text("utf-8"), parts, results), "utf-8")


if __name__ == "__main__":
    main()
