"""Where the time of a training went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esd.report import html
from esd.report.figure import (
    Cell,
    Figure,
    Key,
    Table,
    View,
    axis,
    dash_of,
    line,
    numbers,
    text_of_plot,
)
from esd.report.learning import curve_of_run
from esd.report.runs import Arm, ReportedRun
from esd.report.series import thinned

MOST_NAMED = 12  # runs in a description
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def section(arms: Sequence[Arm]) -> str:
    """The part of the page about time."""
    runs = [run for arm in arms for run in arm.runs if sum(_seconds(run)) > 0.0]
    if not runs:
        return ""
    objective = arms[0].runs[0].objective
    content = html.figure(_breakdown(runs, objective)) + html.figure(_speed(arms, objective))
    intro = "Time of training, without evaluations by esd eval. Rank time is wall time times the number of ranks."
    return html.section("timing", "Timing", content, intro)


def _seconds(run: ReportedRun) -> tuple[float, float]:
    """Seconds that ranks worked (evaluated, updated, wrote), and that they waited for other ranks."""
    total = float(run.lines[-1]["core_seconds"]) if run.lines else 0.0
    waited = sum(
        float(each["idle_share"])
        * float(each["generation_seconds"])
        * float(each.get("ranks") or 1)
        for each in run.lines
        if each.get("idle_share") is not None and each.get("generation_seconds") is not None
    )
    waited = min(waited, total)
    return total - waited, waited


def unit_for(seconds: float) -> tuple[str, float]:
    """The unit in which a time is easy to read, and how many seconds it has."""
    return next((unit for unit in UNITS if seconds >= 2.0 * unit[1]), UNITS[-1])


def _breakdown(runs: list[ReportedRun], objective: bool) -> Figure:
    """A bar for each run: working and waiting."""
    times = [_seconds(run) for run in runs]
    unit, size = unit_for(max(map(sum, times)))
    bar = {"type": "bar", "orientation": "h", "y": [text_of_plot(run.name) for run in runs]}
    data = [
        {**bar, "name": name, "legendgroup": name, "x": numbers([t[i] / size for t in times]), "meta": {"color": color}}
        for i, (name, color) in enumerate((("working", 0), ("waiting", None)))
    ]  # fmt: skip
    rows = [_row(run, *own, size) for run, own in zip(runs, times, strict=True)]
    steps = "evaluations" if objective else "environment steps"
    head = [
        "run", f"wall {unit}", f"rank {unit}", "waiting in %", "median seconds per generation", steps,
        f"{steps} per second",
    ]  # fmt: skip
    named = zip(runs[:MOST_NAMED], times, strict=False)
    words = "; ".join(
        f"{run.name}: {html.number((work + wait) / size)}, of which {html.number(wait / size)} waiting"
        for run, (work, wait) in named
    )
    layout = {
        "barmode": "stack",
        "xaxis": axis(f"rank {unit}", rangemode="tozero"),
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        "hovermode": "closest",
    }
    return Figure(
        "timing-breakdown",
        "Working and waiting",
        f"Bar chart of rank {unit}. {words}.",
        {"": View(data, layout)},
        Table(head, rows, "Time of each run"),
        "Working: evaluating members, updating h and writing files. Waiting: a rank is done and waits for other "
        "ranks.",
        (),
        [Key("working", "working", 0), Key("waiting", "waiting for other ranks", None)],
        max(150, 80 + 28 * len(runs)),
    )


def _row(run: ReportedRun, worked: float, waited: float, size: float) -> list[Cell]:
    last = run.lines[-1]
    wall, steps, total = float(last["seconds"]), int(last["env_steps"]), worked + waited
    known = [e["generation_seconds"] for e in run.lines if e.get("generation_seconds") is not None]
    median = float(np.median(known)) if known else None
    speed = steps / wall if wall else None
    return [run.name, wall / size, total / size, waited / total * 100.0, median, steps, speed]


def _speed(arms: Sequence[Arm], objective: bool) -> Figure:
    """Steps per second over the generations."""
    data = []
    rows: list[list[Cell]] = []
    for i, arm in enumerate(arms):
        for run in arm.runs:
            own = curve_of_run(
                run, lambda e: float(e["generation"]), lambda e: e.get("steps_per_second")
            )
            if not own.x.size:
                continue
            curve = thinned(own)
            style = {"width": 1.5, "dash": dash_of(i)}
            data.append(
                line(arm.name, curve.x, curve.y, i, line=style) | {"name": text_of_plot(run.name)}
            )
            rows.append([run.name, float(np.median(own.y)), float(own.y.min()), float(own.y.max())])
    what = "Evaluations per second" if objective else "Environment steps per second"
    words = "; ".join(f"{row[0]}: {html.cell(row[1], 0)}" for row in rows[:MOST_NAMED])
    layout = {
        "xaxis": axis("generation"),
        "yaxis": axis("per second", rangemode="tozero"),
        "hovermode": "closest",
    }
    return Figure(
        "timing-speed",
        what,
        f"Line chart. {what}, median over generations: {words}.",
        {"": View(data, layout)},
        Table(["run", "median", "lowest", "highest"], rows, what),
        "",
        (),
        [Key(arm.name, arm.name, i, dash_of(i)) for i, arm in enumerate(arms)],
        260,
    )
