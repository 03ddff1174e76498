"""What rank 0 keeps of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.configs import objective
from tests.helpers.disk import at_every_sync
from tests.helpers.thread_ranks import World
from tests.helpers.training import trained


def test_no_checkpoint_is_on_disk_before_the_journal_that_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, safe, ahead = tmp_path / "run", 0, list[int]()

    def look(synced: Path) -> None:
        nonlocal safe
        if "journal.bin" in synced.name:  # its header gets there under another name
            safe = synced.stat().st_size
        elif synced.parent.name == "checkpoints":
            ahead.append((run / "journal.bin").stat().st_size - safe)

    at_every_sync(monkeypatch, look)
    trained(objective("sphere", "run.center_every=1", "run.checkpoint_every=2"), run)
    assert len(ahead) > 5
    assert not any(ahead)


def test_core_seconds_are_of_all_ranks_and_steps_per_second_of_the_generation(
    tmp_path: Path,
) -> None:
    World(3, 1, {}).run(lambda ranks: trained(objective(), tmp_path / "run", ranks))
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["core_seconds"] == pytest.approx(3 * lines[-1]["seconds"])
    steps = sum(line["steps_per_second"] * line["generation_seconds"] for line in lines)
    assert steps == pytest.approx(lines[-1]["env_steps"])
