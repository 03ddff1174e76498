"""Learning curves by steps, generations or time, with the range over runs that differ in their seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from esd.report.figure import Cell, Figure, Key, Table, Trace, View, axis, band, dash_of, line
from esd.report.html import number
from esd.report.runs import Arm, Line, ReportedRun
from esd.report.series import MOST_POINTS, Curve, curve_of, spread_of, thinned

MOST_VARIANTS = 8  # whose curves can be chosen
WHOLE = MOST_POINTS + 1  # points of so many generations: the last one is the last center's
ROWS = 9  # of the table behind a curve

Value = Callable[[Line], float | None]


def learning_curves(arms: Sequence[Arm]) -> Figure | None:
    """The figure; None if no run has made a generation."""
    if not any(run.members or run.centers for arm in arms for run in arm.runs):
        return None
    objective = arms[0].runs[0].objective
    quantities = _quantities(arms)
    axes = _axes(objective)
    views = {
        f"{i}|{j}": _view(arms, value, x, title, label)
        for i, (label, value) in enumerate(quantities.items())
        for j, (title, x) in enumerate(axes.items())
    }
    first = next(iter(quantities))
    value = quantities[first]
    steps = next(iter(axes))
    return Figure(
        "learning-curves",
        f"{first} by {steps}",
        _description(arms, value, first, steps),
        views,
        _table(arms, value, axes[steps], first, steps),
        _caption(arms),
        (("Show", list(quantities)), ("over", list(axes))),
        [Key(arm.name, f"{arm.name} ({_count(arm)})", i, dash_of(i)) for i, arm in enumerate(arms)],
        420,
    )


def _count(arm: Arm) -> str:
    return f"{len(arm.runs)} run{'s' * (len(arm.runs) != 1)}"


def _quantities(arms: Sequence[Arm]) -> dict[str, Value]:
    """What can be drawn, by its name; the first is what a reader wants to see."""
    lines = [line for arm in arms for run in arm.runs for line in run.lines]
    what = "value" if arms[0].runs[0].objective else "return"
    known = {
        f"Center's {what}": "center_return",
        f"Mean {what} of the members": "return_mean",
        f"Highest {what} of a member": "return_max",
        f"Lowest {what} of a member": "return_min",
    }
    known |= {
        f"Center's {what}, {name}": f"center_return.{name}"
        for name in _variants(arms)[:MOST_VARIANTS]
    }
    known |= {"sigma": "sigma", "Norm of h": "h_norm"}

    def of(key: str) -> Value:
        return lambda line: line.get(key)

    present = {
        label: of(key)
        for label, key in known.items()
        if any(line.get(key) is not None for line in lines)
    }
    return present


def _variants(arms: Sequence[Arm]) -> list[str]:
    """The variants of all runs that have several; a run's only variant is no curve of its own."""
    found: dict[str, None] = {}
    for run in (run for arm in arms for run in arm.runs):
        keys = dict.fromkeys(key for line in run.lines[:1] + run.lines[-1:] for key in line)
        names = [key for key in keys if key.startswith("center_return.")]
        if len(names) > 1:
            found |= dict.fromkeys(name.removeprefix("center_return.") for name in names)
    return list(found)


def _axes(objective: bool) -> dict[str, Value]:
    """What curves can be drawn over."""
    steps = "evaluations" if objective else "environment steps"
    return {
        steps: lambda line: float(line["env_steps"]),
        "generations": lambda line: float(line["generation"]),
        "hours of wall time": lambda line: float(line["seconds"]) / 3600.0,
    }


def curve_of_run(run: ReportedRun, x: Value, value: Value) -> Curve:
    """One run's curve, as it is."""
    return curve_of([x(line) or 0.0 for line in run.lines], [value(line) for line in run.lines])


def _drawn(curve: Curve) -> Curve:
    """The points that are drawn."""
    return curve if curve.x.size <= WHOLE else thinned(curve)


def _view(arms: Sequence[Arm], value: Value, x: Value, title: str, label: str) -> View:
    """The curves of all groups: a line for a single run, else the mean, the range and thin lines of the runs."""
    data: list[Trace] = []
    for i, arm in enumerate(arms):
        curves = [curve_of_run(run, x, value) for run in arm.runs]
        curves = [curve for curve in curves if curve.x.size]
        style = {"dash": dash_of(i)}
        if len(curves) < 2:
            for curve in map(_drawn, curves):
                points = {"mode": "lines+markers"} if curve.x.size < 3 else {}
                data.append(line(arm.name, curve.x, curve.y, i, line=style, **points))
            continue
        spread = spread_of(curves, WHOLE)
        for run, curve in zip(arm.runs, map(_drawn, curves), strict=False):
            own = line(arm.name, curve.x, curve.y, i, line={"width": 1}, hoverinfo="skip")
            data.append(own | {"opacity": 0.35, "meta": {"color": i, "run": run.name}})
        if spread is not None:
            data += band(arm.name, spread.x, spread.low, spread.high, i)
            data.append(line(arm.name, spread.x, spread.mean, i, line={**style, "width": 2.5}))
    layout = {
        "xaxis": axis(title, rangemode="tozero"),
        "yaxis": axis(label),
        "hovermode": "x unified",
    }
    return View(data, layout)


def _caption(arms: Sequence[Arm]) -> str:
    parts = []
    if any(len(arm.runs) > 1 for arm in arms):
        parts.append(
            "Thick lines are means over the runs of a group, which differ only in their seed. Bands reach from the "
            "lowest to the highest run. Thin lines are single runs. A mean ends where the shortest run ends."
        )
    longest = max(len(run.members) for arm in arms for run in arm.runs)
    if longest > MOST_POINTS:
        parts.append(
            f"Runs of more than {MOST_POINTS} generations (here up to {longest:,}) are shown as {MOST_POINTS} "
            "points, each the mean of consecutive generations. esd show RUN --csv prints all of them."
        )
    return " ".join(parts)


def _description(arms: Sequence[Arm], value: Value, label: str, steps: str) -> str:
    """The figure in words."""
    texts = []
    for arm in arms:
        ends = []
        for run in arm.runs:
            points = curve_of_run(run, lambda line: float(line["env_steps"]), value)
            if points.x.size:
                ends.append((points.y[0], points.y[-1], points.x[-1]))
        if ends:
            start, end, x = np.mean(ends, axis=0).tolist()
            texts.append(
                f"{arm.name}, {_count(arm)}: from {number(start)} to {number(end)} "
                f"after {number(float(x))} {steps}"
            )
    return f"Line chart. {label}: {'; '.join(texts)}."


def _table(arms: Sequence[Arm], value: Value, x: Value, label: str, steps: str) -> Table:
    """A few points of every curve."""
    rows: list[list[Cell]] = []
    for arm in arms:
        curves = [curve_of_run(run, x, value) for run in arm.runs]
        spread = spread_of([curve for curve in curves if curve.x.size])
        if spread is None:
            continue
        for i in np.unique(np.linspace(0, spread.x.size - 1, ROWS).astype(int)):
            values = (spread.x[i], spread.mean[i], spread.low[i], spread.high[i])
            rows.append([arm.name, *(float(number) for number in values)])
    head = ["group", steps, "mean over runs", "lowest run", "highest run"]
    return Table(head, rows, f"{label} at some points of the curves", same=(2, 3, 4))
