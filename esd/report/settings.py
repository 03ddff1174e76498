"""What the runs were trained with, and where they come from: settings, versions, machines, commands, hashes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.tables import flatten, to_table
from esd.evaluation.groups import STARTED_FROM
from esd.report import html
from esd.report.figure import Cell, Table
from esd.report.runs import Arm, ReportedRun

MOST_DIFFERENCES = 60


def config_section(arms: Sequence[Arm]) -> str:
    """The part of the page about settings: what differs between groups, and all of them."""
    content = ""
    if len(arms) > 1:
        rows = differences(arms)
        if rows:
            head = ["setting", *(arm.name for arm in arms)]
            shown = Table(
                head,
                rows[:MOST_DIFFERENCES],
                "Settings that differ between the groups",
                range(len(head)),
            )
            content += html.table(shown)
    for arm in arms:
        run = arm.runs[0]
        seeds = ", ".join(str(r.config.seed) for r in arm.runs)
        text = tomli_w.dumps(to_table(run.config))
        note = f"<p>Seeds: {html.escaped(seeds)}. The text is the config.toml of {html.escaped(run.name)}.</p>\n"
        label = html.escaped(f"Settings of {arm.name}")
        code = f'<pre tabindex="0" aria-label="{label}"><code>{html.escaped(text)}</code></pre>\n'
        content += html.details(f"All settings of {arm.name}", note + code)
    return html.section("settings", "Settings", content)


def differences(arms: Sequence[Arm]) -> list[list[Cell]]:
    """A row for each setting, seeds aside, that is not the same in all groups, and for where h_0 came from."""
    flats = []
    for run in (arm.runs[0] for arm in arms):
        origin = {k: v for k, v in run.trained.settings.items() if k == STARTED_FROM}
        flats.append(flatten(to_table(run.config)) | origin)
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [
        [key, *(_shown(flat[key]) if key in flat else "–" for flat in flats)]
        for key in keys
        if key != "seed" and any(flat.get(key) != flats[0].get(key) for flat in flats)
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def provenance_section(runs: Sequence[ReportedRun]) -> str:
    """The part of the page about where runs come from."""
    rows: list[list[Cell]] = []
    for run in runs:
        done = run.done or {}
        parameters = run.parameters
        rows.append(
            [
                run.name, str(run.folder.path), run.config.seed, run.status, str(done.get("h_sha256", "–"))[:16],
                "–" if parameters is None else int(parameters.h.size), len(run.calls),
            ]
        )  # fmt: skip
    head = ["run", "folder", "seed", "status", "hash of h", "size of h", "training sessions"]
    content = html.table(Table(head, rows, "The runs of this report", (0, 1, 3, 4)))
    calls = [row for run in runs for row in _calls(run)]
    if calls:
        head = ["run", "started", "command", "ranks", "host", "system", "versions", "commit of esd"]
        found = Table(head, calls, "Training sessions", (0, 1, 2, 4, 5, 6, 7))
        content += html.details(
            "Training sessions: commands, machines and versions", html.table(found)
        )
    return html.section("provenance", "Provenance", content)


def _is_esd(program: str) -> bool:
    """Whether a call's first word is the command line of esd: the console script, or ``python -m esd``."""
    path = Path(program)
    return path.name == "esd" or path.parts[-2:] == ("esd", "__main__.py")


def _calls(run: ReportedRun) -> list[list[Cell]]:
    """A row for each training call, whatever provenance.json holds."""
    rows: list[list[Cell]] = []
    for call in run.calls:
        packages = call.get("packages")
        versions = [f"Python {call.get('python')}"]
        if isinstance(packages, dict):
            versions += [
                f"{name} {number}" for name, number in packages.items() if number is not None
            ]
        mpi = call.get("mpi_library")
        versions += [str(mpi)] if mpi else []
        command = call.get("command")
        words = [str(word) for word in command] if isinstance(command, list) else []
        if words and _is_esd(words[0]):
            words[0] = "esd"  # where it is installed says nothing
        ranks = call.get("ranks")
        system = f"{call.get('machine', '–')}, {call.get('system', '–')}"
        rows.append(
            [
                run.name, str(call.get("started", "–")), shlex.join(words) if any(words) else "–",
                ranks if isinstance(ranks, int) else None, str(call.get("host", "–")), system, ", ".join(versions),
                str(call.get("git_commit") or "–")[:16],
            ]
        )  # fmt: skip
    return rows
