"""What leaks too slowly for the check at the start is found in the generations 1, 2, 4, 8 and so on."""

from __future__ import annotations

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
    monkeypatch.setattr(tape.Tape, "check", lambda self, generation: None)
    assert trained(config, tmp_path / "without").state.sha256() == with_it
