"""``--from``: the child begins where its parent ended, observation statistics included."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import esd
from esd.api.ranks import failures_raised
from esd.commands.console import Quiet
from esd.config.settings import Config
from esd.errors import UsageError
from esd.evaluation.of_run import load
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import Alone
from esd.problems.make import make_problem
from esd.run.folder import RunFolder
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import SMALL, small
from tests.helpers.training import from_journal, trained

NORMALIZED = "env.normalize_observations=true"
PENDULUM = (*SMALL, "env.max_steps=60", "seed=2")


def config_of(*settings: str) -> Config:
    return small("pendulum", "seed=2", *settings)


def child_of(parent: Path, folder: Path, *settings: str) -> None:
    """Train a child as ``esd train pendulum --from`` does."""
    request = TrainRequest("pendulum", folder, (*PENDULUM, *settings), start_from=parent)
    plan = make_plan(request, lambda text: None)
    with failures_raised():
        train(Alone(), plan, StopRequest(), Quiet())


def centers(folder: Path) -> list[float]:
    return [line["center_return"] for line in esd.Run(folder).metrics()]


def test_the_child_s_first_center_is_the_parent_s_last(tmp_path: Path) -> None:
    """The selection episodes depend on the seed alone, so an equal seed gives an equal return, bit for bit."""
    trained(config_of(NORMALIZED, "run.center_every=1"), tmp_path / "parent")
    more = ("es.sigma=0.05", NORMALIZED, "run.center_every=1")
    child_of(tmp_path / "parent", tmp_path / "child", *more)
    assert centers(tmp_path / "child")[0] == centers(tmp_path / "parent")[-1]
    parent, first = from_journal(tmp_path / "parent"), from_journal(tmp_path / "child", 0)
    assert parent.observations.count > 0
    assert first.observations.count == parent.observations.count
    np.testing.assert_array_equal(first.observations.sums, parent.observations.sums)
    np.testing.assert_array_equal(first.observations.squares, parent.observations.squares)
    np.testing.assert_array_equal(first.h, parent.h)
    # and they are what makes the difference: without them the same h returns something else
    config = config_of(*more, "generations=0")
    problem = make_problem(config)
    algorithm = make_strategy(config, problem.layout)
    evaluator = problem.evaluator(algorithm, 1, 0)
    records = Records(0, problem.center_episodes, problem.observation_size)
    forgetful = RunState(
        start(algorithm, parent.h, 0).evolution,
        ObservationStatistics.empty(parent.observations.size),
    )
    evaluator.fill(forgetful, iter(range(problem.center_episodes)), records)
    assert records.center_returns.mean() != centers(tmp_path / "parent")[-1]


def test_the_child_is_rebuilt_and_resumed_without_its_parent(tmp_path: Path) -> None:
    trained(config_of(NORMALIZED), tmp_path / "parent")
    child_of(tmp_path / "parent", tmp_path / "whole", NORMALIZED, "es.sigma=0.05")
    child_of(tmp_path / "parent", tmp_path / "parts", NORMALIZED, "es.sigma=0.05", "generations=2")
    shutil.rmtree(tmp_path / "parent")
    whole = load(RunFolder(tmp_path / "whole"), "last", print)[1].sha256()
    assert from_journal(tmp_path / "whole").sha256() == whole
    for checkpoint in (tmp_path / "parts" / "checkpoints").iterdir():
        checkpoint.unlink()
    resumed = esd.resume(tmp_path / "parts", settings={"generations": 5}, verbose=False)
    assert load(RunFolder(resumed.path), "last", print)[1].sha256() == whole


def test_the_same_command_resumes_the_child_also_without_its_parent(tmp_path: Path) -> None:
    """The promise of exit code 75; a child of another run, or of none, stays as it is."""
    for name in ("parent", "other"):
        trained(config_of(), tmp_path / name)
    child_of(tmp_path / "parent", tmp_path / "whole")
    child_of(tmp_path / "parent", tmp_path / "parts", "generations=2")
    with pytest.raises(UsageError, match=r"not started from .*other.* esd train --run .*parts"):
        child_of(tmp_path / "other", tmp_path / "parts", "generations=5")
    with pytest.raises(UsageError, match=r"other.*: contains a run that was not started from"):
        child_of(tmp_path / "parent", tmp_path / "other")
    shutil.rmtree(tmp_path / "parent")
    child_of(tmp_path / "parent", tmp_path / "parts", "generations=5")
    assert from_journal(tmp_path / "parts").sha256() == from_journal(tmp_path / "whole").sha256()


def test_the_python_api_keeps_them_too(tmp_path: Path) -> None:
    trained(config_of(NORMALIZED, "run.center_every=1"), tmp_path / "parent")
    settings: dict[str, Any] = {"seed": 2, "es.sigma": 0.05}
    child = esd.train(
        run=tmp_path / "child", start_from=tmp_path / "parent", settings=settings, verbose=False
    )
    assert child.metrics()[0]["center_return"] == centers(tmp_path / "parent")[-1]


@pytest.mark.parametrize("parents", [True, False])
def test_only_one_that_normalizes_is_refused_with_the_setting_that_fits(
    parents: bool, tmp_path: Path
) -> None:
    theirs = f"env.normalize_observations={str(parents).lower()}"
    ours = f"env.normalize_observations={str(not parents).lower()}"
    trained(config_of(theirs), tmp_path / "parent")
    with pytest.raises(UsageError, match=f"add --set {theirs}"):
        child_of(tmp_path / "parent", tmp_path / "child", ours)
    assert not (tmp_path / "child").exists()


def test_a_child_that_normalizes_nothing_has_no_statistics(tmp_path: Path) -> None:
    trained(config_of("run.center_every=1"), tmp_path / "parent")
    child_of(tmp_path / "parent", tmp_path / "child", "es.sigma=0.05")
    assert from_journal(tmp_path / "child", 0).observations.size == 0
    assert math.isfinite(centers(tmp_path / "child")[0])


def test_a_child_whose_initial_state_was_removed_says_so(tmp_path: Path) -> None:
    trained(config_of(), tmp_path / "parent")
    child = tmp_path / "child"
    child_of(tmp_path / "parent", child, "es.sigma=0.05")
    (child / "initial.safetensors").unlink()
    with pytest.raises(UsageError, match=r"initial\.safetensors was removed, or the policy's code"):
        from_journal(child, 0)
    said: list[str] = []

    class Listening(Quiet):
        def note(self, text: str) -> None:
            said.append(text)

    plan = make_plan(TrainRequest(run=child, settings=("generations=5",)), said.append)
    with failures_raised():
        train(Alone(), plan, StopRequest(), Listening())
    assert any("initial.safetensors: missing; the run continues" in line for line in said)
