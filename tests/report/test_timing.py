"""Where the time of a training went, as a report draws it."""

from __future__ import annotations

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
