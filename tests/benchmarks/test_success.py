"""How often an experiment solves its task: what counts, and what the table says of the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import success


def run_of(seed: int, *returns: float | None) -> dict[str, Any]:
    """A run with so many variants."""
    return {
        "seed": seed,
        "returns": {str(n): mean for n, mean in enumerate(returns)},
        "generations": 10 + seed,
        "env_steps": 1e6 * seed,
        "core_seconds": 3.0,
    }


def test_every_variant_has_to_reach_the_limit() -> None:
    assert success.is_solved(run_of(0, 0.99, 1.0), 0.99)
    assert not success.is_solved(run_of(0, 0.98, 1.0), 0.99)
    assert not success.is_solved(run_of(0, 1.0, None), 0.99), "no finite return"


def test_the_table_counts_the_solved_and_names_the_others() -> None:
    runs = [run_of(0, 1.0, 1.0), run_of(1, 1.0, 0.5), run_of(2, None, 1.0), run_of(3, 0.99, 0.99)]
    text = success.section({"experiments": {"t-maze": {"limit": 0.99, "runs": runs}}})
    *_, row = text.splitlines()
    assert "| `t-maze` | 0.99 | 2 of 4 (15% to 85%) | 1: 0.5, 2: not finite |" in row
    assert "| 12 (10 to 13) | 1.5 (0.0 to 3.0) | 3.0 (3.0 to 3.0) |" in row


def test_experiments_are_added_to_those_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(success, "trained", lambda runs, experiment, seed: run_of(seed, 1.0))
    file = tmp_path / "kept.json"
    for name in ("t-maze", "cartpole"):
        words = ["", "runs", "--only", name, "--result", str(file)]
        monkeypatch.setattr(sys, "argv", words)
        success.main()
    found = json.loads(file.read_text("utf-8"))["experiments"]
    assert [*found] == ["cartpole", "t-maze"], "in the order of the table"
    assert [run["seed"] for run in found["t-maze"]["runs"]] == [*range(20)]
