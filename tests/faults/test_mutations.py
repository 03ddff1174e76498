"""A few of the mutations that ``python -m tests.faults.mutations`` makes, and of the random configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import configs, mutations


def test_a_damaged_run_gives_the_same_h_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "RESUME_EVERY", 10)
    counts, findings = mutations.examine(0, 60, 1, tmp_path)
    assert findings == []
    for reader in ("show", "eval", "compare", "report", "plan", "resume"):
        assert counts[reader, "ok"]
        assert counts[reader, "UsageError"]


def test_a_random_config_is_valid_or_one_line() -> None:
    counts = configs.run(150)
    assert counts["tables", "valid"]
    assert counts["tables", "UsageError"] > counts["tables", "valid"]
