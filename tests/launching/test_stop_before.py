"""How long before its time limit a job is asked to stop."""

from __future__ import annotations

from pathlib import Path

from esd.launching.stop_before import when_to_stop
from esd.run import metrics
from esd.run.folder import RunFolder
from esd.training.plan import Plan
from tests.helpers.written_runs import written


def resumed(path: Path, seconds: float, ranks: int) -> Plan:
    """To go on with a run whose last generation took so many seconds on so many ranks."""
    folder = RunFolder(written(path))
    *lines, last = metrics.read(folder.metrics_file)
    metrics.store(
        folder.metrics_file, [*lines, last | {"generation_seconds": seconds, "ranks": ranks}]
    )
    return Plan(folder.config(), path, folder.journal_file.read_bytes())


def test_the_slowest_run_on_the_ranks_of_the_job_has_time_for_a_generation(tmp_path: Path) -> None:
    fast, slow = resumed(tmp_path / "a-s0", 200.0, 2), resumed(tmp_path / "b-s0", 150.0, 4)
    for plans in ([fast, slow], [slow, fast]):
        assert when_to_stop(None, 3600, plans, ranks=4) == 225
