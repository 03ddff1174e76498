"""An evaluation has the same numbers on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esd.errors import UsageError
from esd.evaluation.test_episodes import VariantResult, choose, evaluate
from esd.evolution.state import make_strategy, start
from esd.mpi.comm import Alone, Communicator, JobFailedError
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from tests.helpers.configs import of_table

BODIES = [
    {"name": "light", "kwargs": {"g": 2.0}},
    {"name": "telling", "wrappers": ["tests.evaluation.test_test_episodes:Telling"]},
    {"name": "moon", "kwargs": {"g": 1.62}, "unseen": True},
]


def played(comm: Communicator, *settings: str, **options: Any) -> list[VariantResult]:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 20, "variants": BODIES})
    policy = make_policy(config.policy, Interface(3, 1, True))
    h = policy.initial_parameters(0)
    state = start(make_strategy(config, policy.layout), h, 0)
    return evaluate(comm, choose(config, None, settings, ()), state, 5, 3, **options)


@pytest.mark.mpi
@pytest.mark.parametrize("rules", ["evolved", "random"])
def test_every_rank_of_any_number_gets_the_bits_of_one(rules: str, world: Communicator) -> None:
    together, alone = played(world, rules=rules), played(Alone(), rules=rules)
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours.returns, expected.returns)
        assert (ours.name, ours.seen, ours.steps) == (expected.name, expected.seen, 100)
        for name, values in expected.results.items():
            np.testing.assert_array_equal(ours.results[name], values)
    assert together[1].results["distance"].tolist() == [10.0] * 5


@pytest.mark.mpi
def test_ranks_that_have_read_different_states_refuse_to_mix_them(world: Communicator) -> None:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 20})
    policy = make_policy(config.policy, Interface(3, 1, True))
    h = policy.initial_parameters(0)
    h[0] = world.rank
    state = start(make_strategy(config, policy.layout), h, 0)
    if world.size == 1:
        evaluate(world, choose(config, None, (), ()), state, 2, 3)
        return
    with pytest.raises(JobFailedError) as failure:
        evaluate(world, choose(config, None, (), ()), state, 2, 3)
    if world.rank == 0:
        assert "different states" in str(failure.value.__cause__)


@pytest.mark.mpi
def test_what_one_rank_refuses_all_hear_of(world: Communicator) -> None:
    with pytest.raises(JobFailedError) as failure:
        played(world, "policy.hidden=[3]")
    if world.rank == 0:
        assert isinstance(failure.value.__cause__, UsageError)
