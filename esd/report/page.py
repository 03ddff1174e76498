"""The whole page: one HTML file that contains its figures, data, script and videos, and can load nothing else.

Its Content-Security-Policy allows exactly two scripts, by their hashes: the page's own and Plotly's. So whatever a
run's files hold, nothing of it is executed, and the page opens no connection.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import shlex
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from esd import __version__
from esd.errors import MissingPackageError, UsageError
from esd.report import (
    episode,
    evaluations,
    html,
    learning,
    media,
    overview,
    parameters,
    recall,
    settings,
    timing,
    traces,
)
from esd.report.runs import Arm, ReportedRun
from esd.run.run_file import is_file

Warn = Callable[[str], None]

GENERATOR = "esd report"
MARK = f'<meta name="generator" content="{GENERATOR}'


def page(
    arms: Sequence[Arm], videos: Sequence[Path], traced: Sequence[Path], warnings: list[str]
) -> str:
    """The page as HTML.

    Args:
        arms: groups of runs, at least one.
        videos: files that the user names.
        traced: traces that the user names.
        warnings: about files of the runs; more may be added.

    Raises:
        UsageError: if a file that the user names can't be embedded; a ``MissingPackageError`` without Plotly.
    """
    plotly = plotly_script()
    return _document(overview.title_of(arms), content(arms, videos, traced, warnings), plotly)


def content(
    arms: Sequence[Arm], videos: Sequence[Path], traced: Sequence[Path], warnings: list[str]
) -> str:
    """All parts of the page, as HTML; see ``page``.

    Raises:
        UsageError: if a file that the user names can't be embedded.
    """
    runs = [run for arm in arms for run in arm.runs]
    curves = learning.learning_curves(arms)
    parts = [
        "" if curves is None else html.section("learning", "Learning curves", html.figure(curves)),
        evaluations.section(arms),
        evaluations.comparison_section(arms),
        _episodes([run for run in runs if not run.objective], traced, warnings.append),
        media.section(runs, videos, warnings.append, _hint_of_video(runs)),
        parameters.section(arms),
        timing.section(arms),
        settings.config_section(arms),
        settings.provenance_section(runs),
    ]
    return overview.section(arms, warnings) + "".join(parts)  # last: it shows the warnings


def _episodes(runs: Sequence[ReportedRun], named: Sequence[Path], warn: Warn) -> str:
    """The part about recorded episodes: those that the user names, and those that lie in the runs' folders."""
    if not runs:
        return ""
    found = [traces.read(path, follow=True) for path in named]
    taken = {path.resolve() for path in named}
    for run in runs:
        for path in traces.traces_in(run.folder):
            if path.resolve() in taken:
                continue
            try:
                found.append(traces.read(path))
            except UsageError as error:
                warn(f"{error}; skipped")
    recalls = {i: recall.figures(trace, list(runs), i) for i, trace in enumerate(found)}
    return episode.section(found, recalls, _recording(runs[0], "trace", "episode.safetensors"))


def _hint_of_video(runs: Sequence[ReportedRun]) -> str:
    """How to get a video; nothing for runs that play no episodes."""
    run = next((run for run in runs if not run.objective), None)
    if run is None:
        return ""
    return f"No video has been recorded. {_recording(run, 'video', 'episode.gif')}"


def _recording(run: ReportedRun, option: str, file: str) -> str:
    """How to record an episode, and to have it shown."""
    path = str(run.folder.path)
    if is_file(run.folder):
        name = shlex.quote(path)
        shows = f"esd report {name} --{option} {file} shows it"
        return f"esd eval {name} --{option} {file} records one; {shows}."
    target = shlex.quote(str(run.folder.path / file))
    return f"esd eval {shlex.quote(path)} --{option} {target} records one; the report shows it."


def plotly_script() -> str:
    """Plotly's JavaScript, from its Python package, whose Python part is not imported.

    Raises:
        MissingPackageError: if it is not installed.
        UsageError: if the package has no such file.
    """
    try:
        file = resources.files("plotly") / "package_data" / "plotly.min.js"
    except ModuleNotFoundError:
        raise MissingPackageError("esd report", "plotly") from None
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            "esd report: the installed plotly has no package_data/plotly.min.js; install it again with "
            "pip install --force-reinstall plotly"
        ) from None


def is_report(path: Path) -> bool:
    """Whether a file is a page that this command has written."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(2_000)
    except OSError:
        return False


def own_file(name: str) -> str:
    """A file that lies beside this one."""
    return (resources.files("esd.report") / name).read_text("utf-8")


@functools.cache
def _packed(script: str) -> str:
    """A script as base64 of gzip, which browsers unpack: 2 MB instead of 4.8 MB of Plotly."""
    return base64.b64encode(gzip.compress(script.encode(), 6, mtime=0)).decode()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _document(title: str, body: str, plotly: str) -> str:
    script, style = own_file("page.js"), own_file("page.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {_hash(plotly)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    when = time.strftime("%Y-%m-%d %H:%M")
    name = html.escaped(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK} {__version__}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{name} – esd report</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<div><h1>{name}</h1>
<p>Report of <span class="nowrap">esd {__version__}</span>, <time>{when}</time></p></div>
<button type="button" id="theme" hidden>Dark</button>
</header>
<nav aria-label="Parts of the report"></nav>
<main id="main" tabindex="-1">
<noscript><p class="note">Figures need JavaScript. Below each figure you can open its numbers.</p></noscript>
<p id="status" role="status" class="note" hidden></p>
{body}</main>
<footer><p>This page is one file and loads nothing from the network.</p></footer>
<script type="text/plain" id="plotly">{_packed(plotly)}</script>
<script>{script}</script>
</body>
</html>
"""
