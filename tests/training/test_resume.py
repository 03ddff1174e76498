"""A resume needs the memory of a generation, not of the journal; checkpoints are saved when they are due."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from esd.commands.console import Quiet
from esd.config.tables import apply_settings, parse
from esd.mpi.comm import Alone
from esd.run import checkpoint
from esd.training import commit
from esd.training.loop import Ending
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import SMALL, small
from tests.helpers.training import from_journal, trained

SIZE = 4000


class Wide(gym.Env[np.ndarray, int]):
    """One step with a large observation, as of a picture."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (SIZE,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Something of the seed."""
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: int) -> Any:
        """One is better than the other."""
        return self._seen(), float(action), True, False, {}

    def _seen(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, SIZE).astype(np.float32)


gym.register("EsdTestWide-v0", Wide)


def test_resuming_a_large_journal_takes_the_memory_of_a_generation(tmp_path: Path) -> None:
    table = {
        "env": {"id": "EsdTestWide-v0", "normalize_observations": True, "max_steps": 9},
        "policy": {"kind": "static", "hidden": []},
    }
    settings = ["population=60", "generations=22", "run.checkpoint_every=20", "run.center_every=0"]
    config = parse(apply_settings(table, settings), "wide")
    run = tmp_path / "run"
    trained(config, run)
    (run / "checkpoints/generation-00000022.safetensors").unlink()
    size = (run / "journal.bin").stat().st_size
    assert size > 80_000_000
    wanted = from_journal(run).sha256()
    tracemalloc.start()
    plan = make_plan(TrainRequest(run=run), print)
    of_plan = tracemalloc.get_traced_memory()[1]
    assert len(plan.encode()) < 10_000
    tracemalloc.reset_peak()
    (run / "DONE.json").unlink()
    resumed = trained(config, run)
    of_resume = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert resumed.state.sha256() == wanted
    of_generation = size / 22
    assert of_plan < 5_000_000
    assert of_resume < 6 * of_generation, f"{of_resume:,} bytes, a generation has {of_generation:,}"


def test_the_last_evaluation_of_the_center_stands_in_the_journal_once(tmp_path: Path) -> None:
    """Also if the process died between it and DONE.json."""
    config = small("cartpole-static", "generations=3")
    trained(config, tmp_path / "run")
    journal = tmp_path / "run/journal.bin"
    whole = journal.read_bytes()
    (tmp_path / "run/DONE.json").unlink()
    assert trained(config, tmp_path / "run").finished
    assert journal.read_bytes() == whole
    # the center of a run that is extended afterwards keeps its place
    trained(dataclasses.replace(config, generations=4), tmp_path / "run")
    assert journal.read_bytes()[: len(whole)] == whole


@pytest.mark.parametrize(
    ("seconds", "every", "kept"),
    [(0.0, 0, [10, 20, 21]), (3600.0, 0, [10, 21]), (3600.0, 8, [8, 16, 21])],
)
def test_checkpoints_are_at_most_one_a_second_unless_their_number_is_set(
    seconds: float, every: int, kept: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = checkpoint.save

    def noted(path: Path, found: checkpoint.Checkpoint) -> None:
        saved.append(found.state.generation)
        save(path, found)

    monkeypatch.setattr(checkpoint, "save", noted)
    monkeypatch.setattr(commit, "CHECKPOINT_SECONDS", seconds)
    settings = ["generations=21", "run.center_every=0", f"run.checkpoint_every={every}"]
    trained(small("cartpole-static", *settings, max_steps=3), tmp_path / "run")
    assert saved == kept


def carried_out(run: Path, *settings: str) -> Ending:
    """``esd train cartpole`` with a target that generation 2 reaches."""
    target = ("run.target_return=1", "run.center_every=3", "generations=9")
    own = (*SMALL, *target, *settings)
    return train(
        Alone(), make_plan(TrainRequest("cartpole", run, own), print), StopRequest(), Quiet()
    )


def test_a_run_killed_between_its_target_and_its_end_only_has_to_end(tmp_path: Path) -> None:
    """What the journal has been told is decided: another generation would be another h."""
    whole = carried_out(tmp_path / "run")
    assert (whole.reason, whole.state.generation) == ("target_return", 1)
    kept = (tmp_path / "run" / "journal.bin").read_bytes()
    done = json.loads((tmp_path / "run" / "DONE.json").read_text())
    (tmp_path / "run" / "DONE.json").unlink()
    resumed = carried_out(tmp_path / "run")
    assert (resumed.reason, resumed.finished) == ("target_return", True)
    assert resumed.state.sha256() == whole.state.sha256()
    assert (tmp_path / "run" / "journal.bin").read_bytes() == kept
    assert json.loads((tmp_path / "run" / "DONE.json").read_text()) == done
    # a target that was raised meanwhile is still to be reached
    (tmp_path / "run" / "DONE.json").unlink()
    further = carried_out(tmp_path / "run", "run.target_return=1e6")
    assert (further.reason, further.state.generation) == ("generations", 9)
