"""Tasks of memory: what is read of runs, and what of earlier ones is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import memory
from tests.helpers.shell import esd

SHORT = memory.Test("t-maze", "5 to 40 steps", "T-maze, 5 to 40 steps")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of two generations."""
    monkeypatch.setattr(memory, "TESTS", (SHORT,))
    monkeypatch.setattr(memory, "TIMED_SECONDS", 0.0)
    small = ("--set=generations=2", "--set=population=4", "--set=env.episodes_per_member=1")
    done = esd("train", "t-maze", "--run=t-maze-s3", "--set=seed=3", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_seeds_and_policies_without_runs_are_kept_and_others_made_anew(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert esd("eval", "t-maze-s3", "--episodes=5", cwd=runs).returncode == 0
    (runs / "t-maze-s3.log").write_text("not a run")
    arm = {"runs": [{"seed": 3, "mean": 0.5}, {"seed": 9, "mean": 0.5}], "step_seconds": 1.0}
    kept = [{"says": SHORT.says, "task": "t-maze", "arms": {"LSH": arm, "GRU": arm}}]
    result = runs / "memory.json"
    result.write_text(json.dumps({"tests": kept}))
    monkeypatch.setattr("sys.argv", ["memory", str(runs), "--result", str(result)])
    memory.main()
    (test,) = json.loads(result.read_text())["tests"]
    assert list(test["arms"]) == ["LSH", "GRU"]
    assert test["arms"]["GRU"] == arm
    run, other = test["arms"]["LSH"]["runs"]
    assert (run["seed"], run["generations"], run["episodes"]) == (3, 2, 5)
    assert other == arm["runs"][1]
    assert 0.0 < test["arms"]["LSH"]["step_seconds"] < 1.0


def test_a_run_that_is_not_evaluated_is_named_with_the_command(runs: Path) -> None:
    with pytest.raises(SystemExit, match=r"not evaluated yet: esd eval .*t-maze-s3"):
        memory.read(runs, {"tests": []})


def test_an_evaluation_of_an_h_before_the_best_does_not_count(runs: Path) -> None:
    assert esd("eval", "t-maze-s3", "--episodes=5", cwd=runs).returncode == 0
    memory.read(runs, {"tests": []})
    (stored,) = (runs / "t-maze-s3/evaluations").iterdir()
    found = json.loads(stored.read_text())
    stored.write_text(json.dumps({**found, "generation": found["generation"] - 1}))
    with pytest.raises(SystemExit, match=r"not evaluated yet: esd eval .*t-maze-s3"):
        memory.read(runs, {"tests": []})


def test_the_table_has_a_row_per_test_and_the_trainings_of_all_of_them() -> None:
    run = {"seed": 1, "generations": 7, "env_steps": 2e6, "seconds": 3.0, "ranks": [1]}
    other = {**run, "seed": 2, "generations": 9, "env_steps": 4e6, "seconds": 5.0, "ranks": [2]}
    both = [{**run, "mean": 0.5, "episodes": 100}, {**other, "mean": 1.0, "episodes": 10}]
    tests = [
        {
            "says": f"a {name}",
            "task": "t-maze",
            "arms": {"LSH": {"runs": r, "step_seconds": 2.5e-6}},
        }
        for name, r in (("maze", both), ("long maze", both[:1]))
    ]
    text = memory.section({"tests": tests})
    assert "| a maze | LSH | 0.750 (0.500 to 1.000) | 2 | 10, 100 | 2.50 µs |" in text
    assert "| a long maze | LSH | 0.500 | 1 | 100 | 2.50 µs |" in text
    assert "| t-maze | LSH | 7 to 9 | 3.0 M | 3 to 5 | 1, 2 |" in text
