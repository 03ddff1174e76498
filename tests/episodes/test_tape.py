"""What leaks too slowly for the check at the start is found in generations 1, 2, 4, 8 and so on, and at the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from esd.config.settings import Config
from esd.episodes import tape
from esd.mpi.comm import JobFailedError
from tests.helpers.configs import of_table, small
from tests.helpers.training import from_journal, trained


def slow(**more: Any) -> Config:
    """An environment that changes after 20,000 steps: about three generations of these."""
    env = {"id": "tests.helpers.impure:Leaking-v0", "kwargs": {"leak": "slow", "length": 200}}
    return of_table(
        env=env,
        population=30,
        generations=6,
        run={"center_every": 0, "checkpoint_every": 1, **more},
    )


def test_an_environment_that_changes_after_some_generations_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as caught:
        trained(slow(), tmp_path / "run")
    text = str(caught.value.__cause__)
    assert "repeated before generation 4, had a different observation after reset" in text
    assert "run.allow_drift=true" in text
    assert "\n" not in text
    assert from_journal(tmp_path / "run").generation == 4  # what was done stays


def test_what_changes_after_the_last_of_these_generations_is_found_at_the_end(
    tmp_path: Path,
) -> None:
    config = slow()
    later = {**config.env.kwargs, "length": 130}  # 20,000 steps are over in generation 5
    with pytest.raises(JobFailedError) as caught:
        trained(
            dataclasses.replace(config, env=dataclasses.replace(config.env, kwargs=later)),
            tmp_path / "run",
        )
    assert "repeated after the last generation, had a different" in str(caught.value.__cause__)
    assert not (tmp_path / "run" / "DONE.json").exists()


@pytest.mark.parametrize("env", ["Acrobot-v1", "CartPole-v1"])
def test_a_policy_that_changes_after_many_loads_ends_the_run(env: str, tmp_path: Path) -> None:
    config = of_table(
        env={"id": env, "max_steps": 30},
        policy={"kind": "tests.helpers.impure_policies:ImpurePolicy", "kwargs": {"how": "loads"}},
        population=30,
        generations=5,
        run={"center_every": 0, "checkpoint_every": 1},
    )
    with pytest.raises(JobFailedError) as caught:
        trained(config, tmp_path / "run")
    text = str(caught.value.__cause__)
    assert "the policy no longer behaves as at the start" in text
    assert "repeated before generation 4, had a different output in step" in text
    assert "\n" not in text


def test_drift_that_is_allowed_is_not_looked_for(tmp_path: Path) -> None:
    assert trained(slow(allow_drift=True), tmp_path / "run").finished


@pytest.mark.parametrize(
    "config",
    [
        small("pendulum", "env.normalize_observations=true"),
        small("halfcheetah"),
        of_table(env={"id": "tests.helpers.user_code:GlobalRandomness-v0"}, generations=3, population=4),
        of_table(
            env={"id": "tests.helpers.user_code:GlobalRandomness-v0"},
            policy={"kind": "tests.helpers.impure_policies:ImpurePolicy", "kwargs": {"how": "global"}},
            generations=3,
            population=4,
        ),
    ],
    ids=["statistics", "physics", "global generators", "shared generators"],
)  # fmt: skip
def test_h_is_the_same_with_and_without_it(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = trained(config, tmp_path / "with").state.sha256()
    monkeypatch.setattr(tape.Tape, "check", lambda self, generation, last: None)
    assert trained(config, tmp_path / "without").state.sha256() == with_it
