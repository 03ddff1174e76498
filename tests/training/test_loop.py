"""The loop: when a training ends."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from esd.commands.console import Quiet
from esd.mpi.comm import Alone, JobFailedError
from esd.run import journal
from esd.training import loop
from esd.training.plan import Plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import objective
from tests.helpers.training import trained


class QuarterHours(Quiet):
    """Generations of 15 minutes."""

    minutes = 0

    def generation(self, report: object, generations: int) -> None:
        """Another one."""
        self.minutes += 15


def test_max_hours_are_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = QuarterHours()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 60.0 * reporter.minutes)
    monkeypatch.setattr(loop, "time", clock)
    config = objective("sphere", "run.max_hours=0.5", "generations=9")
    ending = train(Alone(), Plan(config, tmp_path / "run", b"", None), StopRequest(), reporter)
    assert (ending.reason, ending.state.generation) == ("max_hours", 3)


def test_an_h_that_is_infinite_is_not_kept(tmp_path: Path) -> None:
    config = objective("sphere", "es.shaping=raw", "es.optimizer=sgd", "es.learning_rate=1e39")
    with pytest.raises(JobFailedError) as caught:
        trained(config, tmp_path / "run")
    assert "generation 0: the update made h infinite or NaN" in str(caught.value.__cause__)
    assert journal.scan(tmp_path / "run/journal.bin").next_generation == 0
