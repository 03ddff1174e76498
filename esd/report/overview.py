"""The top of the page: what was trained, how it ended, and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence

from esd.report import html
from esd.report.figure import Cell, Table
from esd.report.html import number
from esd.report.runs import Arm, ReportedRun


def title_of(arms: Sequence[Arm]) -> str:
    """The page's title: the groups, or the folder of many of them."""
    names = [arm.name for arm in arms]
    if len(names) <= 2:
        return " and ".join(names)
    if len(names) == 3:
        return ", ".join(names)
    folders = {run.folder.place.parent for arm in arms for run in arm.runs}
    folder = folders.pop()
    if folders or not folder.name:
        return f"{', '.join(names[:3])} …"
    # "runs" is the usual name, which says little
    usual = folder.name == "runs" and folder.parent.name
    return f"{folder.parent.name}/{folder.name}" if usual else folder.name


def section(arms: Sequence[Arm], warnings: Sequence[str]) -> str:
    """The first part of the page."""
    runs = [run for arm in arms for run in arm.runs]
    first = runs[0]
    objective = first.objective
    what = first.config.objective.function if objective else first.config.env.id
    titles = dict.fromkeys(r.config.objective.function or r.config.env.id for r in runs)
    kinds = dict.fromkeys("parameters" if r.objective else r.config.policy.kind for r in runs)
    cards = {
        "objective" if objective else "environment": ", ".join(titles) or what,
        "evolved": ", ".join(kinds),
        "algorithm": ", ".join(dict.fromkeys(r.config.es.algorithm for r in runs)),
        "population": ", ".join(dict.fromkeys(f"{r.config.population:,}" for r in runs)),
        "runs": f"{len(runs)} in {len(arms)} groups" if len(arms) > 1 else str(len(runs)),
        "evaluations" if objective else "environment steps": number(
            sum(_last(r, "env_steps") for r in runs)
        ),
        "wall time": duration(sum(_last(r, "seconds") for r in runs)),
    }
    content = html.definitions(cards)
    findings = [f"{run.name}: {finding.text}" for run in runs for finding in run.findings]
    if findings:
        content += "<h3>What looks wrong</h3>\n" + html.notes(findings, "finding")
    content += html.table(_table(arms, objective))
    if warnings:
        content += html.details("Notes on the files of the runs", html.notes(list(warnings)), True)
    return html.section("overview", "Overview", content)


def _last(run: ReportedRun, key: str) -> float:
    return float(run.lines[-1].get(key) or 0.0) if run.lines else 0.0


def _table(arms: Sequence[Arm], objective: bool) -> Table:
    """A row for each run."""
    what = "value" if objective else "return"
    rows: list[list[Cell]] = []
    for arm in arms:
        for run in arm.runs:
            members, centers = run.members, run.centers
            rows.append(
                [
                    run.name, arm.name, run.config.seed, run.status, f"{len(members):,} of {run.config.generations:,}",
                    run.best_center, centers[-1]["center_return"] if centers else None,
                    members[-1]["return_mean"] if members else None, int(_last(run, "env_steps")),
                    duration(_last(run, "seconds")),
                ]
            )  # fmt: skip
    head = [
        "run", "group", "seed", "status", "generations", f"center's best {what}", f"center's last {what}",
        f"members' last mean {what}", "evaluations" if objective else "env. steps", "wall time",
    ]  # fmt: skip
    return Table(head, rows, "The runs", (0, 1, 3), (5, 6, 7))


def duration(seconds: float) -> str:
    """A time in words: "4.0 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"
