"""What a machine computes, as one number: two machines that differ in a last bit of a policy are told apart."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.canary import compute
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.evolution.state import make_strategy
from esd.policies.guard import unguarded
from esd.run.folder import RunFolder
from esd.run.journal import VERSION, version_of
from tests.helpers.configs import REMEMBERING, of_table, remembering, small
from tests.helpers.training import trained

CART_POLE = {"id": "CartPole-v1"}
CONFIGS = {
    **{policy: remembering(policy) for policy in REMEMBERING},
    "gru, not compiled": of_table(env=CART_POLE, policy=REMEMBERING["gru"]),
    "hebbian": of_table(env=CART_POLE),
    "a torch module": of_table(
        env=CART_POLE, policy={"kind": "tests.helpers.user_code:SmallModule"}
    ),
}


def of_this_machine(config: Config, version: int = VERSION) -> str:
    """The canary, as a run's journal of a version keeps it."""
    rollout = Rollout(config)
    h0 = rollout.policy.initial_parameters(config.seed)
    algorithm = make_strategy(config, rollout.policy.layout)
    return compute(rollout, algorithm, OneByOne(rollout, algorithm), h0, version).cpu


@pytest.mark.parametrize("name", CONFIGS)
def test_machines_that_differ_in_a_policys_last_bits_are_told_apart(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the world sees nothing of it: the largest logit stays the largest."""
    config = CONFIGS[name]
    here = of_this_machine(config)
    assert of_this_machine(config) == here
    kind = type(unguarded(Rollout(config).policy))
    act = kind.act
    monkeypatch.setattr(kind, "act", lambda self, seen: np.nextafter(act(self, seen), np.inf))
    elsewhere = of_this_machine(config)
    assert elsewhere != here
    assert of_this_machine(config) == elsewhere


def test_the_canary_of_an_older_journal_is_drawn_as_it_was() -> None:
    """Of before version 3 from the test stream; new ones from a stream of their own."""
    config = CONFIGS["hebbian"]
    assert of_this_machine(config, 2) != of_this_machine(config)


def test_a_run_whose_canary_is_of_the_first_version_is_resumed_without_drift(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(Path(__file__).parents[1] / "data/runs_of_version_1/static-momentum", run)
    before = (run / "journal.bin").read_bytes()
    assert version_of(before) == 2
    config = RunFolder(run).config()
    assert not config.run.allow_drift
    trained(dataclasses.replace(config, generations=4), run)
    after = (run / "journal.bin").read_bytes()
    assert version_of(after) == 2
    assert after.startswith(before)
    assert len(after) > len(before)


def test_a_new_run_has_a_journal_of_the_newest_version(tmp_path: Path) -> None:
    trained(small(), tmp_path / "run")
    assert version_of((tmp_path / "run/journal.bin").read_bytes()) == VERSION
    # and is resumed against the canary of that version
    trained(small("cartpole", "generations=6"), tmp_path / "run")
