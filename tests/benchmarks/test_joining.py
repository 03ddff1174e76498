"""What is kept of runs so that others can be added later; the runs are written, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.joining import joined, what_runs_share
from tests.helpers.written_runs import evaluation, written


def test_a_variants_world_is_the_one_that_the_settings_of_the_run_make(tmp_path: Path) -> None:
    plain = evaluation({"a": 1.0})
    changed = evaluation({"a": 1.0}, settings={"env.max_steps": 3})
    changed["variants"][0]["world"]["max_steps"] = 3
    for name, stored in {"first-s0": (plain, changed), "last-s0": (changed, plain)}.items():
        run = written(tmp_path / name, *stored)
        assert what_runs_share({"arm": [run]})["worlds"] == {"a": plain["variants"][0]["world"]}


def test_trials_that_were_counted_before_are_kept() -> None:
    nothing: dict[str, Any] = {"arms": {}, "settings": {}, "worlds": {}, "comparison": None}
    first, second = ({"runs": runs, "env_steps": 9.0} for runs in (3, 4))
    earlier, new = {**nothing, "trials": {"a": first}}, {**nothing, "trials": {"b": second}}
    assert joined(earlier, new)["trials"] == {"a": first, "b": second}
