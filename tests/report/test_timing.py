"""Where the time of a training went, as a report draws it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from esd.report import timing
from esd.report.runs import read_arms
from tests.helpers.written_runs import written


def test_each_run_has_a_bar_of_its_own(tmp_path: Path) -> None:
    """Plotly stacks bars of one name into one."""
    runs = [written(tmp_path / "a/run-s1"), written(tmp_path / "b/run-s1", population=6)]
    text = timing.section(read_arms(list(map(str, runs)), pytest.fail))
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    bars = json.loads(found[0])["views"][""]["data"]
    assert [bar["y"] for bar in bars] == [["a/run-s1", "b/run-s1"]] * 2


def test_ranks_wait_for_their_share_of_each_generations_seconds(tmp_path: Path) -> None:
    """10 minutes on 4 ranks, of which they wait 4 × 1 and 4 × 3 minutes."""
    (arm,) = read_arms([str(written(tmp_path / "run-s1"))], pytest.fail)
    clock = {"seconds": 600.0, "core_seconds": 2400.0, "env_steps": 1200, "ranks": 4}
    lines = [
        arm.runs[0].lines[0] | clock | {"generation_seconds": seconds, "idle_share": share}
        for seconds, share in ((240.0, 0.25), (360.0, 0.5))
    ]
    figure = timing._breakdown([dataclasses.replace(arm.runs[0], lines=lines)], False)
    assert [bar["x"] for bar in figure.views[""].data] == [[24.0], [16.0]]
    assert figure.table is not None
    assert figure.table.rows == [["run-s1", 10.0, 40.0, 40.0, 300.0, 1200, 2.0]]
