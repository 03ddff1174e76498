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
    assert not success.is_solved(run_of(0), 0.99), "not tested"


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


def test_associative_recall_is_tested_with_the_memory_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So says the comment of the experiment, and so it is in the tables of benchmarks/memory.py."""
    calls: list[tuple[str, ...]] = []

    def called(words: list[str]) -> str:
        calls.append(tuple(words))
        trained, new = (
            {"name": name, "mean": mean, "seen": seen}
            for name, mean, seen in (("pairs", 1.0, True), ("more", 0.0, False))
        )
        return json.dumps({"variants": [trained, new]})

    line = {"generation": 4, "return_mean": 0.5, "env_steps": 9, "core_seconds": 2.0}
    monkeypatch.setattr(success, "call_esd", called)
    monkeypatch.setattr(success.metrics, "read", lambda file: [line])
    found = success.trained(tmp_path, "associative-recall", 3)
    assert (found["returns"], found["generations"]) == ({"pairs": 1.0}, 5)
    success.trained(tmp_path, "t-maze", 3)
    success.trained(tmp_path, "color-cubes", 3)
    (train, evaluate, _, other, _, cubes) = calls
    assert train[:3] == ("train", "associative-recall", "--set=seed=3")
    run = str(tmp_path / "associative-recall-s3")
    assert evaluate == ("eval", run, *(f"--set={s}" for s in success.LARGER), "--json")
    # the others are long: a corridor of 100,000 steps
    assert other == (
        "eval",
        str(tmp_path / "t-maze-s3"),
        "--variant=1 to 4 steps",
        "--variant=5 to 40 steps",
        "--json",
    )
    # the others end a walk after four moves, which many targets are too far away for
    assert cubes[2:] == ("--variant=5×5 cells, 3 cubes", "--json")
