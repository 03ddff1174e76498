"""From a run's folder to a stored evaluation: which state, and what is refused before anything is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esd.config.tables import parse
from esd.evaluation import of_run
from esd.evaluation.test_episodes import choose
from esd.evolution.state import make_strategy, start
from esd.mpi.comm import Alone, JobFailedError
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from esd.run.folder import RunFolder
from tests.helpers.configs import objective
from tests.helpers.training import trained

SPHERE = {"function": "sphere", "direction": "minimize", "parameters": {"x": {"shape": [4]}}}


def test_a_run_that_no_longer_evaluates_its_center_keeps_its_best_h(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    trained(objective("sphere", "generations=2", "run.center_every=0"), run.path)
    _, state, checkpoint = of_run.load(run, "best", pytest.fail)
    assert (checkpoint, state.generation) == ("last", 2)
    trained(objective("sphere", "generations=4", "run.center_every=1"), run.path)
    trained(objective("sphere", "generations=5", "run.center_every=0"), run.path)
    _, state, checkpoint = of_run.load(run, "best", pytest.fail)
    assert (checkpoint, state.generation) == ("best", run.generation_of_best())


@pytest.mark.parametrize(
    "table",
    [
        {"env": {"id": "Pendulum-v1", "variants": [{"name": "a"}, {"name": "b"}]}},
        {"objective": {**SPHERE, "values": ["a", "b"]}},
    ],
    ids=["variants", "values"],
)
def test_memory_has_to_hold_the_returns_of_all_variants(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_run, "available_memory", lambda: 3 * of_run.BYTES_OF_AN_EPISODE)
    config = parse(table, "test")
    policy = make_policy(config.policy, Interface(3, 1, True))
    state = start(make_strategy(config, policy.layout), policy.initial_parameters(0), 0)
    subject = choose(config, None, [], [])
    with pytest.raises(JobFailedError) as caught:
        of_run.evaluate_and_store(
            Alone(), RunFolder(tmp_path), subject, state, "last", 2, 0, "evolved", print
        )
    assert str(caught.value.__cause__).startswith("episodes = 2: their returns need")
