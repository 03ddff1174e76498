"""Tables of groups of trained runs: what they were trained with, and what they reach in test episodes."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.freezing import FREEZE
from benchmarks.measuring import wilson
from benchmarks.tables.markdown import table
from esd.evaluation.groups import newest_by_conditions
from esd.evaluation.significance import permutation_test


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
            _of_one(group, run)
            for group, runs in result["arms"].items()
            for run in runs
            if run["evaluations"]
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
    overall = _overall(result)
    rows += [overall] * bool(overall)
    described = found["conditions"]["described"]
    last = " The last row is one test of its own, without Holm's correction." if overall else ""
    return (
        f"{table(heads, rows)}\n\nMean ± standard deviation over training runs; {described}.{last}"
    )


def _overall(result: dict[str, Any]) -> list[str]:
    """A row of the mean over variants that no group has trained on, which is one number of each run; else nothing."""
    compared = result["comparison"]["variants"]
    if len(compared) < 2 or any(variant["seen"] for variant in compared):
        return []
    first, *others = result["arms"]
    means: dict[str, list[float]] = {}
    for group, runs in result["arms"].items():
        played = [_played(result, run) for run in runs]
        means[group] = [statistics.mean(own[v["name"]]["mean"] for v in compared) for own in played]
    row = ["mean of these", "unseen", _mean_and_deviation(means[first])]
    for name in others:
        test = permutation_test(means[first], means[name])
        row += [_mean_and_deviation(means[name]), f"{test.difference:+.1f}", f"{test.p:.2g}"]
    return row


def _played(result: dict[str, Any], run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By variant, a run's newest test under the conditions of the comparison."""
    ways = newest_by_conditions(run["evaluations"])[0]
    key = result["comparison"]["conditions"]["key"]
    return next(found for way, found in ways.items() if way.key == key)


def untested(result: dict[str, Any]) -> str:
    """Means on the variants that were evaluated in the same way but are not compared, such as those trained on."""
    found = result["comparison"]
    if found is None:
        return ""
    compared = {v["name"] for v in found["variants"]}
    cells: dict[tuple[str, bool], dict[str, list[float]]] = {}
    for group, runs in result["arms"].items():
        for run in runs:
            for name, own in _played(result, run).items():
                if name not in compared and own["mean"] is not None:
                    means = cells.setdefault((name, own["seen"]), {})
                    means.setdefault(group, []).append(own["mean"])
    rows = [
        [
            name,
            "seen" if seen else "unseen",
            *(_mean_and_deviation(means[group]) for group in result["arms"]),
        ]
        for (name, seen), means in cells.items()
        if [len(means.get(g, [])) for g in result["arms"]] == [*map(len, result["arms"].values())]
    ]
    return table(["not compared", "", *result["arms"]], rows) if rows else ""


def _mean_and_deviation(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


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
        untested(result),
        references(result),
    ]
    return "\n\n".join(part for part in found if part)
