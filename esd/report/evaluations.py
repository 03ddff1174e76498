"""Results on every variant with intervals, and what groups differ by: from what ``esd eval`` stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evaluation.comparison import Comparison, compare_groups
from esd.evaluation.groups import check_groups
from esd.evaluation.significance import deviation, student_interval
from esd.evaluation.stored import Conditions
from esd.report import html
from esd.report.figure import (
    Cell,
    Figure,
    Key,
    Table,
    Trace,
    View,
    axis,
    dash_of,
    numbers,
    text_of_plot,
)
from esd.report.html import number
from esd.report.runs import Arm

FEWEST_RUNS = 3  # whose interval is drawn
FAILED = "A run failed if one of its episodes has no finite return. Means are over the runs that did not fail."

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One group on one variant.

    Attributes:
        arm: number of the group.
        variant: name.
        seen: whether training used it.
        means: of each run that was evaluated on it and did not fail, float64 [runs].
        interval: 95 %, over runs, or over the episodes of a single run; None if it is not known.
        deviation: over runs, or over episodes.
        over: "runs" or "episodes"; "–" without a mean.
        failed: runs with an episode that has no finite return, so that they have no mean.
    """

    arm: int
    variant: str
    seen: bool
    means: Float64s
    interval: tuple[float, float] | None
    deviation: float | None
    over: str
    failed: int


def section(arms: Sequence[Arm]) -> str:
    """The part of the page about evaluations."""
    by_conditions = _by_conditions(arms)
    if not by_conditions:
        run = arms[0].runs[0]
        what = "evaluates the best center on new seeds" if run.objective else "runs test episodes"
        text = f"No run has been evaluated yet. esd eval {run.folder.path} {what} and stores the results."
        return html.section("evaluation", "Evaluation", html.notes([text]))
    parts = []
    for i, (conditions, results) in enumerate(by_conditions.items()):
        objective = arms[0].runs[0].objective
        described = conditions.described(objective)
        drawn = [r for r in results if r.means.size]
        content = html.figure(_figure(arms, drawn, described, i)) if len(drawn) > 1 else ""
        content += html.table(_table(arms, results, described))
        if any(r.failed for r in results):
            content += html.notes([FAILED])
        missing = [
            str(run.folder.path)
            for arm in arms
            for run in arm.runs
            if conditions not in run.trained.found
        ]
        if missing:
            content += html.notes([f"Not evaluated with these settings: {', '.join(missing)}."])
        parts.append(content if i == 0 else html.details(f"Also evaluated: {described}", content))
    intro = (
        "Test episodes are neither used for training nor for choosing the best checkpoint. Intervals are 95 % "
        "confidence intervals of the mean: over the runs of a group, or over the episodes if a group has a single "
        "run."
    )
    return html.section("evaluation", "Evaluation", "".join(parts), intro)


def comparison_section(arms: Sequence[Arm]) -> str:
    """The part of the page that compares groups; nothing of a single group."""
    if len(arms) < 2:
        return ""
    try:
        groups = [arm.group for arm in arms]
        check_groups(groups)
        found = compare_groups(groups)
    except UsageError as error:
        text = f"These groups cannot be compared yet: {error}."
        return html.section("comparison", "Comparison", html.notes([text]))
    content = html.table(_tests(found)) + html.notes([f"{note}." for note in found.notes])
    first = found.groups[0].name
    intro = (
        f"Each group is compared with {first}. Each training run counts as one value. p is from a two-sided "
        "permutation test over runs; p (Holm) is corrected for the number of tests in this table. A difference is "
        "significant if p (Holm) is below 0.05."
    )
    return html.section("comparison", "Comparison", content, intro)


def _by_conditions(arms: Sequence[Arm]) -> dict[Conditions, list[Result]]:
    """All results, the runs' own rules in their own worlds first."""
    conditions = dict.fromkeys(c for arm in arms for run in arm.runs for c in run.trained.found)
    ordered = sorted(conditions, key=lambda c: (not c.plain, c.checkpoint != "best", c.key))
    return {c: found for c in ordered if (found := list(_results(arms, c)))}


def _results(arms: Sequence[Arm], conditions: Conditions) -> Sequence[Result]:
    names = dict.fromkeys(
        name for arm in arms for run in arm.runs for name in run.trained.found.get(conditions, {})
    )
    found = []
    for name in names:
        for i, arm in enumerate(arms):
            cells = [run.trained.found.get(conditions, {}).get(name) for run in arm.runs]
            stored = [cell for cell in cells if cell is not None]
            if stored:
                found.append(_result(i, name, stored))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _result(arm: int, name: str, cells: list[dict[str, Any]]) -> Result:
    known = [cell for cell in cells if _is_number(cell["mean"])]
    means = np.array([cell["mean"] for cell in known], np.float64)
    seen, failed = bool(cells[0]["seen"]), len(cells) - len(known)
    if not known:
        return Result(arm, name, seen, means, None, None, "–", failed)
    if means.size > 1:
        over_runs = student_interval(means)
        return Result(arm, name, seen, means, over_runs, deviation(means), "runs", failed)
    own, std = known[0].get("interval_95"), known[0].get("std")
    is_interval = isinstance(own, list | tuple) and len(own) == 2 and all(map(_is_number, own))
    interval = (float(own[0]), float(own[1])) if is_interval and own is not None else None
    spread = std if _is_number(std) else None
    return Result(arm, name, seen, means, interval, spread, "episodes", failed)


def _table(arms: Sequence[Arm], results: Sequence[Result], described: str) -> Table:
    objective = arms[0].runs[0].objective
    means = [float(r.means.mean()) if r.means.size else None for r in results]
    deviations = [r.deviation for r in results if r.deviation is not None]
    decimals = html.alike_columns([[mean for mean in means if mean is not None], deviations])
    rows: list[list[Cell]] = []
    for r, mean in zip(results, means, strict=True):
        interval = "–" if r.interval is None else html.interval(*r.interval, decimals)
        seen = [] if objective else ["seen" if r.seen else "unseen"]
        rows.append(
            [r.variant, *seen, arms[r.arm].name, _runs_of(r), mean, r.deviation, interval, r.over]
        )
    names = ["value"] if objective else ["variant", "in training"]
    count = len(names)
    head = [*names, "group", "runs", "mean", "std", "95 % interval", "spread over"]
    left = (*range(count + 1), count + 5)
    return Table(head, rows, f"Evaluated: {described}", left, (count + 2, count + 3))


def _runs_of(result: Result) -> Cell:
    """How many runs a mean is over, and how many failed."""
    count = int(result.means.size)
    every = count + result.failed
    return f"{count} ({result.failed} of {every} failed)" if result.failed else count


def _figure(arms: Sequence[Arm], results: Sequence[Result], described: str, index: int) -> Figure:
    """Means with intervals, and a dot for each run."""
    names = list(dict.fromkeys(r.variant for r in results))
    count = len(arms)
    data: list[Trace] = []
    for i, arm in enumerate(arms):
        own = [r for r in results if r.arm == i]
        places = [
            len(names)
            - 1
            - names.index(r.variant)
            + 0.32 * ((count - 1) / 2 - i) / max(1, count - 1)
            for r in own
        ]
        dots = [
            (m, y) for r, y in zip(own, places, strict=True) for m in r.means if r.means.size > 1
        ]
        group = {
            "legendgroup": arm.name,
            "name": text_of_plot(arm.name),
            "type": "scatter",
            "mode": "markers",
        }
        data.append(
            group
            | {
                "x": numbers([x for x, _ in dots]), "y": numbers([y for _, y in dots]), "hoverinfo": "skip",
                "marker": {"size": 8, "symbol": "circle-open"}, "opacity": 0.85, "meta": {"color": i},
            }
        )  # fmt: skip
        halves = [
            r.means.mean() - r.interval[0] if r.interval is not None and _is_drawn(r) else 0.0
            for r in own
        ]
        data.append(
            group
            | {
                "x": numbers([r.means.mean() for r in own]), "y": numbers(places),
                "error_x": {"type": "data", "array": numbers(halves), "thickness": 2, "width": 5},
                "marker": {"size": 10, "symbol": ("circle", "diamond", "square", "cross")[i % 4]},
                "text": [text_of_plot(f"{r.variant} ({'seen' if r.seen else 'unseen'})") for r in own],
                "hovertemplate": "%{text}: %{x:.4g}", "meta": {"color": i},
            }
        )  # fmt: skip
    what = "value" if arms[0].runs[0].objective else "return"
    unseen = {r.variant for r in results if not r.seen}
    layout = {
        "xaxis": axis(f"mean {what}"),
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": [
                text_of_plot(_short(n) + (" ○" if n in unseen else "")) for n in reversed(names)
            ],
            "range": [-0.6, len(names) - 0.4],
            "automargin": True,
        },
        "hovermode": "closest",
    }
    best = "; ".join(
        f"{r.variant}, {arms[r.arm].name}: {number(float(r.means.mean()))}" for r in results[:12]
    )
    caption = "Large marks are means with their 95 % intervals; small circles are single runs."
    if not all(map(_is_drawn, results)):
        caption += f" Intervals of fewer than {FEWEST_RUNS} runs are very wide: they are in the table only."
    if unseen:
        caption += " ○ marks variants that were not used for training."
    return Figure(
        f"evaluation-{index}",
        "Means on each variant" if not arms[0].runs[0].objective else "Means of each value",
        f"Dot plot of means with intervals ({described}). {best}.",
        {"": View(data, layout)},
        None,
        caption,
        (),
        [
            Key(arm.name, arm.name, i, dash_of(0))
            for i, arm in enumerate(arms)
            if any(r.arm == i for r in results)
        ],
        max(220, 90 + 46 * len(names)),
    )


def _is_drawn(result: Result) -> bool:
    """Whether an interval is drawn: Student's t of two runs is 12.7, and would set the axis instead of the data."""
    return result.over != "runs" or result.means.size >= FEWEST_RUNS


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _tests(found: Comparison) -> Table:
    first, *others = (group.name for group in found.groups)
    head = ["variant", "in training", f"{first} (mean ± std)"]
    for name in others:
        head += [f"{name} (mean ± std)", f"{name} minus {first}", "p", "p (Holm)"]
    rows: list[list[Cell]] = []
    decimals = html.alike(
        [float(value) for row in found.rows for m in row.means.values() for value in m]
    )
    for row in found.rows:
        seen = {True: "seen", False: "unseen", None: "mixed"}[row.seen]
        shown = {
            name: f"{html.fixed(float(m.mean()), decimals)} ± {html.fixed(deviation(m), decimals)}"
            for name, m in row.means.items()
        }
        cells: list[Cell] = [row.name, seen, shown[first]]
        for name in others:
            test = row.tests[name]
            sign = "+" if test.difference >= 0 else ""
            cells += [shown[name], f"{sign}{html.fixed(test.difference, decimals)}"]
            cells += [f"{test.p:.2g}", f"{row.corrected[name]:.2g}"]
        rows.append(cells)
    described = found.conditions.described(found.groups[0].objective)
    return Table(head, rows, f"Compared: {described}", (0, 1))
