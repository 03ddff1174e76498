"""What several benchmarks read of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measuring import call_esd, generations_of
from esd.run import metrics
from esd.run.folder import RunFolder


@pytest.mark.parametrize(("target", "reason"), [(1.0, "target_return"), (501.0, "generations")])
def test_generations_are_counted_as_esd_counts_them_however_the_run_ended(
    target: float, reason: str, tmp_path: Path
) -> None:
    small = ("generations=3", "population=4", f"run.target_return={target}")
    words = ["train", "--run", str(tmp_path / "run"), *(f"--set={s}" for s in small), "--json"]
    ended = json.loads(call_esd(words))
    assert ended["reason"] == reason
    last = metrics.read(RunFolder(tmp_path / "run").metrics_file)[-1]
    assert generations_of(last) == ended["generation"]
