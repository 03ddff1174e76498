"""Where runs come from, as a report says it."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from esd.report.runs import read_arms
from esd.report.settings import provenance_section
from tests.helpers.written_runs import written


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["/opt/venv/bin/esd", "train", "cartpole"], "esd train cartpole"),
        (["/opt/site-packages/esd/__main__.py", "train", "ant"], "esd train ant"),
        (["tp.py"], "tp.py"),  # which called esd.train
        (["/home/me/study/__main__.py", "--fast"], "/home/me/study/__main__.py --fast"),
        ([""], "–"),  # an interactive Python
    ],
)
def test_the_command_is_the_one_that_was_run(
    command: list[str], shown: str, tmp_path: Path
) -> None:
    run = written(tmp_path / "r-s1")
    (run / "provenance.json").write_text(json.dumps([{"command": command, "started": "today"}]))
    (arm,) = read_arms([str(run)], pytest.fail)
    text = html.unescape(provenance_section(arm.runs))
    assert f'>today</td><td class="t">{shown}</td>' in text
