"""Rows in lock-step: the records of one after the other, and law 1 for whatever only comes near them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from esd.config.settings import Config
from esd.episodes import canary
from esd.episodes.evaluator import OneByOne, Player, Task
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import RunError, UsageError
from esd.evolution.canary import Canary
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import RETURNS, WRITERS, Records, Status
from esd.evolution.state import RunState, make_strategy, start
from esd.lockstep import policies
from esd.lockstep.evaluator import Lockstep
from esd.problems.episodes import make_player
from esd.run.journal import VERSION
from tests.helpers.configs import of_table, small

MEMBERS, CENTERS = 12, 3
PENDULUM = {"id": "Pendulum-v1"}
MODULE = {"kind": "tests.helpers.user_code:SmallModule", "kwargs": {"hidden": 33}}
CONFIGS: dict[str, Config] = {
    "cartpole": small("cartpole", max_steps=500),
    "pendulum": small("pendulum", max_steps=0),
    "halfcheetah, normalized": small("halfcheetah", "env.normalize_observations=true"),
    "static": of_table(env=PENDULUM, policy={"kind": "static", "order": "F", "hidden": [6]}),
    "several episodes, normalized, a penalty": of_table(
        env={**PENDULUM, "episodes_per_member": 3, "normalize_observations": True, "max_steps": 20},
        es={"fitness_penalty": 0.3, "common_random_numbers": "none", "noise": "binomial"},
    ),
    "several bodies": of_table(
        env={
            **PENDULUM,
            "episodes_per_member": 2,
            "normalize_observations": True,
            "variants": [{"name": "light", "kwargs": {"g": 2.0}}, {"name": "heavy"}],
        },
    ),
    "impatient": of_table(
        env={**PENDULUM, "stop_after_negative": 21}, es={"common_random_numbers": "generation"}
    ),
    "NaN rewards": of_table(
        env={"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"share": 0.6}},
        es={"noise": "rademacher"},
    ),
    "box2d": of_table(env={"id": "BipedalWalker-v3", "max_steps": 40}),
}


def state_of(config: Config, rollout: Rollout, generation: int = 3) -> RunState:
    """A state of some generation, with observation statistics."""
    strategy = make_strategy(config, rollout.policy.layout)
    begun = start(strategy, rollout.policy.initial_parameters(1), rollout.observation_size)
    size = begun.observations.size
    seen = ObservationStatistics(7.0, np.full(size, 1.5), np.full(size, 6.0))
    return RunState(
        type(begun.evolution)(
            generation, begun.h, begun.evolution.vectors, begun.evolution.scalars
        ),
        seen if size else begun.observations,
    )


def filled(
    config: Config,
    slots: int,
    rows: Iterable[int] | None = None,
    ranks: int = 1,
    device: torch.device | str = "cpu",
) -> Records:
    """Records of some rows, with so many slots; 0: one after the other."""
    config = with_slots(config, slots, device=str(device))
    rollout = Rollout(config)
    evaluator: Player = OneByOne(rollout, make_strategy(config, rollout.policy.layout))
    if slots:
        evaluator = make_player(rollout, make_strategy(config, rollout.policy.layout), ranks, 0)
        assert isinstance(evaluator, Lockstep)
    records = Records(MEMBERS, CENTERS, rollout.observation_size, len(rollout.variants))
    wanted = range(MEMBERS + CENTERS) if rows is None else rows
    evaluator.fill(state_of(config, rollout), iter(wanted), records)
    evaluator.close()
    rollout.close()
    return records


def with_slots(config: Config, slots: int, **changes: Any) -> Config:
    """The config with another number of members at once."""
    return dataclasses.replace(config, batch_members=slots, **changes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Box2D's
@pytest.mark.parametrize("name", CONFIGS)
def test_records_are_the_bits_of_one_after_the_other(name: str, device: torch.device) -> None:
    expected = filled(CONFIGS[name], 0)
    assert expected.all_written_once
    assert len(set(expected.table[:, RETURNS])) > 2, "all rows are alike: nothing was compared"
    assert (expected.rows_with(Status.NOT_FINITE).size > 0) == (name == "NaN rewards")
    for slots, ranks in ((4, 1), (64, 1), (64, 5)):
        np.testing.assert_array_equal(
            filled(CONFIGS[name], slots, None, ranks, device).table, expected.table
        )


def test_an_output_that_is_not_finite_ends_the_row_and_no_other(device: torch.device) -> None:
    linear = {"kind": "static", "hidden": [8, 8], "activation": "none"}
    config = of_table(env=PENDULUM, policy=linear, es={"sigma": 1e30})
    expected = filled(config, 0)
    assert MEMBERS // 2 < expected.rows_with(Status.NOT_FINITE).size <= MEMBERS
    np.testing.assert_array_equal(filled(config, 5, device=device).table, expected.table)


@pytest.mark.parametrize("policy", [MODULE, {"hidden": [6]}], ids=["a module", "hebbian"])
@pytest.mark.parametrize("slots", [2, 4, 64])
def test_a_row_is_the_same_bits_alone_first_last_and_among_others(
    policy: dict[str, Any], slots: int, device: torch.device
) -> None:
    # sizes at which the slot was seen to matter to a module's last bits
    config = of_table(env={"id": "HalfCheetah-v5", "max_steps": 20}, policy=policy)
    whole = filled(config, slots, device=device)
    backwards = filled(config, slots, reversed(range(MEMBERS + CENTERS)), device=device)
    np.testing.assert_array_equal(backwards.table, whole.table)
    for rows in ([5], [5, 9, 1], [13, 2, 5]):
        some = filled(config, slots, rows, ranks=2, device=device)
        np.testing.assert_array_equal(some.table[rows], whole.table[rows])
        assert some.table[:, WRITERS].sum() == len(rows)


@pytest.mark.parametrize(
    ("policy", "slots", "rows", "expected"),
    [
        (MODULE, 64, (66, 2, 3, 7, 65), {2: 66, 3: 3, 7: 7}),
        ({"hidden": [6]}, 4, (6, 2, 3, 7, 1), {2: 6, 0: 2, 3: 3}),
    ],
    ids=["a module", "hebbian"],
)
def test_a_modules_slot_is_decided_by_its_row_since_bits_may_depend_on_it(
    policy: dict[str, Any], slots: int, rows: tuple[int, ...], expected: dict[int, int]
) -> None:
    config = with_slots(of_table(env=PENDULUM, policy=policy), 4)
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    lockstep = Lockstep(rollout, algorithm, 1, torch.device("cpu"))
    assert lockstep._slots == slots
    waiting = [Task(row, row, []) for row in rows]
    placed = lockstep._placed(waiting, {1})
    assert {slot: task.row for slot, task in placed.items()} == expected
    assert sorted([*expected.values(), *(t.row for t in waiting)]) == sorted(rows)


def test_an_evaluator_forgets_the_generation_before() -> None:
    config = CONFIGS["several episodes, normalized, a penalty"]
    rollout = Rollout(with_slots(config, 4))
    evaluator = make_player(rollout, make_strategy(config, rollout.policy.layout), 1, 0)
    begun = state_of(config, rollout)
    later = RunState(begun.evolution, ObservationStatistics(9.0, np.ones(3), np.full(3, 11.0)))
    tables = []
    for state in (begun, later, begun):
        records = Records(MEMBERS, CENTERS, 3)
        evaluator.fill(state, iter(range(MEMBERS + CENTERS)), records)
        tables.append(records.table)
    np.testing.assert_array_equal(tables[0], tables[2])
    assert (tables[0] != tables[1]).any(axis=1).all()
    np.testing.assert_array_equal(tables[0], filled(config, 0).table)


@pytest.mark.parametrize(("steps", "tolerance"), [(20, 1e-6), (200, 1e-5)])
def test_a_modules_fitness_agrees_within_the_stated_tolerance(
    steps: int, tolerance: float, device: torch.device
) -> None:
    config = of_table(env={**PENDULUM, "max_steps": steps}, policy=MODULE)
    alone, together = filled(config, 0), filled(config, 8, device=device)
    np.testing.assert_allclose(together.returns, alone.returns, rtol=tolerance, atol=0)
    assert together.steps == alone.steps


def test_a_modules_fitness_on_cartpole_differs_in_few_members_if_any(device: torch.device) -> None:
    config = of_table(policy=MODULE)
    alone, together = filled(config, 0), filled(config, 8, device=device)
    assert (together.returns != alone.returns).sum() <= 1  # a logit's last bit can tip an action


def test_an_environment_that_uses_global_generators_is_refused_by_name() -> None:
    config = of_table(env={"id": "tests.helpers.user_code:GlobalRandomness-v0"})
    with pytest.raises(UsageError, match=r"GlobalRandomness-v0.*global random generator"):
        filled(config, 4)


def test_an_error_in_an_environment_names_its_row() -> None:
    config = of_table(
        env={"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"how": "raise", "share": 1.0}}
    )
    with pytest.raises(RunError, match="physics of this environment broke") as error:
        filled(config, 4, [9])
    assert str(error.value).startswith("generation 3, member 9: env.id = ")
    assert isinstance(error.value.__cause__, RuntimeError)


def canary_of(config: Config) -> Canary:
    """What a start would compare."""
    rollout = Rollout(config)
    evaluator = make_player(rollout, make_strategy(config, rollout.policy.layout), 1, 0)
    return canary.compute(
        rollout,
        make_strategy(config, rollout.policy.layout),
        evaluator,
        rollout.policy.initial_parameters(0),
        VERSION,
    )


@pytest.mark.parametrize("policy", [MODULE, {"hidden": [6]}], ids=["a module", "hebbian"])
@pytest.mark.parametrize("slots", [2, 3, 7])
def test_the_canary_of_the_journal_is_the_cpus_whatever_the_device(
    policy: dict[str, Any], slots: int, device: torch.device
) -> None:
    config = of_table(env=PENDULUM, policy=policy)
    on_device = with_slots(config, slots, device=str(device))
    assert canary_of(on_device).cpu == canary_of(config).cpu


def test_a_device_with_other_bits_than_it_promises_is_refused(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_slots(of_table(env=PENDULUM), 3, device=str(device))
    canary_of(config)
    monkeypatch.setattr(policies, "tanh", torch.tanh)  # a library's own
    with pytest.raises(RunError, match="other bits than the CPU"):
        canary_of(config)
    canary_of(with_slots(config, 3, run=of_table(run={"allow_drift": True}).run))


def test_an_environment_that_leaks_into_the_next_episode_is_found_at_the_start() -> None:
    config = of_table(env={"id": "tests.helpers.user_code:Leaky-v0"})
    with pytest.raises(RunError, match="is not a pure function"):
        canary_of(with_slots(config, 3))


def test_environments_that_share_something_are_found_at_the_start() -> None:
    config = of_table(env={"id": "tests.helpers.user_code:Shared-v0"})
    canary_of(config)
    with pytest.raises(RunError, match="State leaks"):
        canary_of(with_slots(config, 3))


def test_a_rehearsal_is_played_in_every_way_that_could_matter() -> None:
    for policy, expected in ((MODULE, 2), ({"hidden": [6]}, 3)):
        config = with_slots(of_table(env=PENDULUM, policy=policy), 4)
        rollout = Rollout(config)
        evaluator = make_player(rollout, make_strategy(config, rollout.policy.layout), 1, 0)
        outcomes = evaluator.rehearse(state_of(config, rollout), 1, [EpisodeSeeds(1, 2)], 9)
        assert len(outcomes) == expected
        assert {o.steps for o in outcomes} == {9}
