"""What a machine computes, as one number: two machines that differ in a last bit of a policy are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.canary import compute
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.evolution.state import make_strategy
from tests.helpers.configs import REMEMBERING, of_table, remembering

CART_POLE = {"id": "CartPole-v1"}
CONFIGS = {
    **{policy: remembering(policy) for policy in REMEMBERING},
    "gru, not compiled": of_table(env=CART_POLE, policy=REMEMBERING["gru"]),
    "hebbian": of_table(env=CART_POLE),
    "a torch module": of_table(
        env=CART_POLE, policy={"kind": "tests.helpers.user_code:SmallModule"}
    ),
}


def of_this_machine(config: Config) -> str:
    """The canary, as a run's journal keeps it."""
    rollout = Rollout(config)
    h0 = rollout.policy.initial_parameters(config.seed)
    algorithm = make_strategy(config)
    return compute(rollout, algorithm, OneByOne(rollout, algorithm), h0).cpu


@pytest.mark.parametrize("name", CONFIGS)
def test_machines_that_differ_in_a_policys_last_bits_are_told_apart(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the world sees nothing of it: the largest logit stays the largest."""
    config = CONFIGS[name]
    here = of_this_machine(config)
    assert of_this_machine(config) == here
    kind = type(Rollout(config).policy)
    act = kind.act
    monkeypatch.setattr(kind, "act", lambda self, seen: np.nextafter(act(self, seen), np.inf))
    elsewhere = of_this_machine(config)
    assert elsewhere != here
    assert of_this_machine(config) == elsewhere
