"""Torch modules: evaluated many at a time by default, with bits that depend on the member alone, or one by one."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, vmap

from esd.config.settings import Config
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.errors import RunError, UsageError
from esd.evolution.records import RETURNS, Records, Status
from esd.evolution.state import make_strategy
from esd.lockstep.evaluator import Lockstep
from esd.lockstep.module import members_at_once, pays
from esd.lockstep.policies import make_batch_policy
from esd.lockstep.recorded import recorded
from esd.lockstep.worlds import CompiledWorlds, PythonWorlds
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from esd.problems.episodes import EpisodesProblem, make_player
from tests.helpers.configs import of_table, small
from tests.helpers.training import trained
from tests.lockstep.test_evaluator import MEMBERS, state_of

USER = "tests.helpers.user_code"
# a size at which the slot was seen to matter to a module's last bits, on one processor of three
MODULE: dict[str, Any] = {"kind": f"{USER}:SmallModule", "kwargs": {"hidden": 33}}
# the slot and the number of slots matter to its bits on every processor
BY_SLOT: dict[str, Any] = {"kind": f"{USER}:SlotModule"}
WORLDS: dict[str, dict[str, Any]] = {
    "cartpole": {"id": "CartPole-v1", "episodes_per_member": 3},
    "pendulum, normalized": {
        "id": "Pendulum-v1",
        "normalize_observations": True,
        "max_steps": 30,
        "episodes_per_member": 2,
    },
    "pendulum, impatient": {"id": "Pendulum-v1", "stop_after_negative": 21},
    "halfcheetah, normalized": {
        "id": "HalfCheetah-v5",
        "normalize_observations": True,
        "max_steps": 12,
    },
    "a table, whose slots need environments of their own": {"id": "FrozenLake-v1"},
    "an environment's own": {"id": "esd/HiddenCartPole-v0", "kwargs": {"sign": "random"}},
    "several bodies": {
        "id": "Pendulum-v1",
        "max_steps": 20,
        "variants": [{"name": "light", "kwargs": {"g": 2.0}}, {"name": "heavy"}],
    },
}


def of_world(world: dict[str, Any], **more: Any) -> Config:
    """A module in a world."""
    return of_table(**{"env": world, "policy": MODULE, "population": MEMBERS, **more})


def in_python(config: Config) -> Config:
    """The config with environments whose steps are their own."""
    return dataclasses.replace(config, env=dataclasses.replace(config.env, compiled="never"))


def filled(
    config: Config,
    rows: list[int] | None = None,
    kind: type[Any] = Lockstep,
    world: Any = None,
    members: int = MEMBERS,
) -> Records:
    """Records of some rows, by the player that the config asks for."""
    rollout = Rollout(config)
    rollout.drop_unequal_steps(4)  # as every start does
    player = make_player(rollout, make_strategy(config, rollout.policy.layout), 1, 0)
    assert type(player) is kind
    if world is not None:
        assert type(player._worlds) is world  # type: ignore[attr-defined]
    records = Records(members, 3, rollout.observation_size, len(rollout.variants))
    player.fill(state_of(config, rollout), iter(rows or range(MEMBERS + 3)), records)
    player.close()
    rollout.close()
    return records


@pytest.mark.parametrize("name", WORLDS)
def test_compiled_steps_of_all_slots_are_those_of_environments_one_by_one(
    name: str, device: torch.device
) -> None:
    config = dataclasses.replace(of_world(WORLDS[name]), device=str(device))
    if device.type == "cuda":
        config = dataclasses.replace(config, batch_members=64)
    compiled = filled(config, world=CompiledWorlds)
    assert compiled.all_written_once
    assert len(np.unique(compiled.table[:, RETURNS])) > 2 or "table" in name
    own = in_python(dataclasses.replace(config, batch_members=64))
    np.testing.assert_array_equal(compiled.table, filled(own, world=PythonWorlds).table)
    backwards = filled(config, [*reversed(range(MEMBERS + 3))])
    np.testing.assert_array_equal(backwards.table, compiled.table)


@pytest.mark.parametrize("name", WORLDS)
def test_one_by_one_compiled_steps_are_those_of_the_environment(name: str) -> None:
    config = dataclasses.replace(of_world(WORLDS[name]), batch_members=1)
    rollout = Rollout(config)
    assert rollout.environments.all_steps() is not None
    rollout.close()
    own = filled(in_python(config), kind=OneByOne)
    np.testing.assert_array_equal(filled(config, kind=OneByOne).table, own.table)


@pytest.mark.parametrize(
    "policy", [MODULE, BY_SLOT, {"hidden": [6]}], ids=["a module", "by its slot", "hebbian"]
)
def test_a_policy_of_the_cpu_in_lock_step_gives_the_same_for_any_number_at_a_time(
    policy: dict[str, Any],
) -> None:
    config = of_world({"id": "HalfCheetah-v5", "max_steps": 20}, policy=policy)
    tables = [
        filled(dataclasses.replace(config, batch_members=n)).table for n in (2, 3, 16, 64, 200)
    ]
    for table in tables[1:]:
        np.testing.assert_array_equal(table, tables[0])
    if "kind" in policy:
        np.testing.assert_array_equal(filled(config).table, tables[0])


@pytest.mark.parametrize("policy", [MODULE, BY_SLOT], ids=["a module", "by its slot"])
def test_a_row_has_the_same_bits_whether_its_slot_is_free_or_not(policy: dict[str, Any]) -> None:
    config = of_world({"id": "HalfCheetah-v5", "max_steps": 20}, policy=policy)
    members = 70
    alone = [filled(config, [row], members=members).table[row] for row in (5, 69)]
    together = filled(config, [5, 69, 1, 65], members=members).table
    np.testing.assert_array_equal(together[[5, 69]], alone)


def test_outputs_that_are_not_finite_end_a_row_and_no_other_and_are_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = of_world({"id": "Pendulum-v1"}, es={"sigma": 4e37})
    records = filled(config)
    failed = records.rows_with(Status.NOT_FINITE)
    assert 0 < failed.size < MEMBERS + 3
    assert "the policy's outputs before step 1 are NaN or infinite" in capsys.readouterr().err
    for row in range(MEMBERS, MEMBERS + 3):
        np.testing.assert_array_equal(filled(config, [row]).table[row], records.table[row])


def test_a_row_of_many_that_raises_is_named() -> None:
    config = of_table(
        env={"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"how": "raise", "share": 1.0}},
        policy=MODULE,
        batch_members=4,
    )
    with pytest.raises(RunError, match=r"generation 3, member 9: .*physics"):
        filled(config, [9], world=PythonWorlds)


# which way is taken


def notes_of(config: Config) -> tuple[type, list[str]]:
    """The player's class, and what a user is told."""
    problem = EpisodesProblem(config)
    evaluator = problem.evaluator(make_strategy(config, problem.layout), 1, 0)
    found = type(evaluator.player), problem.notes
    evaluator.close()
    problem.close()
    return found


def test_by_default_many_members_of_a_module_are_evaluated_at_a_time_and_a_note_says_so() -> None:
    kind, notes = notes_of(of_world(WORLDS["cartpole"]))
    assert kind is Lockstep
    assert notes == [
        "CartPole-v1: steps run in compiled code",
        f"policy.kind = '{USER}:SmallModule': 64 members are evaluated at a time",
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("RecurrentModule", "it has a memory that"),
        ("RandomModule", "torch.func.vmap says: vmap: called random operation"),
        ("BranchingModule", "torch.func.vmap says: .*data-dependent control flow"),
        ("PythonRandomModule", "its forward draws random numbers"),
        ("NumpyModule", "torch.func.vmap says"),
        ("AttentionModule", "torch has no batching rule for aten::"),
        ("LargeModule", "with 131,[0-9]+ parameters this is faster"),
    ],
)
def test_a_module_that_torch_cannot_evaluate_together_is_evaluated_alone_and_a_note_says_why(
    name: str, why: str
) -> None:
    config = of_world(WORLDS["cartpole"], policy={"kind": f"{USER}:{name}"})
    kind, notes = notes_of(config)
    assert kind is OneByOne
    (note,) = [text for text in notes if "policy.kind" in text]
    assert note.startswith(f"policy.kind = '{USER}:{name}': members are evaluated one at a time: ")
    assert re.search(why, note), note
    assert "\n" not in note
    if name != "LargeModule":
        with pytest.raises(UsageError, match="can't be evaluated in lock-step"):
            notes_of(dataclasses.replace(config, batch_members=8))


def test_a_module_in_an_environment_of_python_is_evaluated_alone_and_a_note_says_what_helps() -> (
    None
):
    kind, notes = notes_of(in_python(of_world(WORLDS["cartpole"])))
    assert kind is OneByOne
    assert "batch_members = 64 evaluates 64 at a time" in notes[-1]


@pytest.mark.parametrize("changes", [{"batch_members": 1}, {"format": 1}])
def test_whoever_asks_for_it_and_older_runs_are_evaluated_one_by_one(
    changes: dict[str, Any],
) -> None:
    kind, notes = notes_of(dataclasses.replace(of_world(WORLDS["cartpole"]), **changes))
    assert kind is OneByOne
    assert not any("policy.kind" in note for note in notes)


def test_so_many_members_are_computed_at_once_as_caches_hold() -> None:
    assert [members_at_once(n) for n in (1, 2**15, 2**15 + 1, 2**16 + 1, 10**9)] == [
        64,
        64,
        32,
        16,
        16,
    ]
    assert [pays(n) for n in (1, 2**17, 2**17 + 1)] == [True, True, False]


@pytest.mark.parametrize("first", [0, 3])
def test_a_run_goes_on_to_the_same_bits_also_with_another_number_at_a_time(
    first: int, tmp_path: Path
) -> None:
    module = (f"policy.kind={USER}:SmallModule", "policy.kwargs={hidden = 33}")
    whole = trained(small("pendulum", *module), tmp_path / "whole").state
    for generations, members in ((2, first), (5, 0)):
        settings = (f"generations={generations}", f"batch_members={members}")
        ending = trained(small("pendulum", *module, *settings), tmp_path / "run")
    assert ending.state.sha256() == whole.sha256()


# what is recorded


class Written(torch.nn.Module):
    """Makes tensors, writes into them, and splits them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        offset = torch.tensor([0.5, 0.25]).add_(1.0)
        y = self.norm(self.layer(x)) * self.scale
        first, second = y.split(2)
        return torch.cat([first + offset, second.clone().mul_(2.0)])[: 3 + 0 * len(x)]


def batched(module: torch.nn.Module, slots: int = 6) -> tuple[dict[str, torch.Tensor], Any]:
    """Parameters of many members, and the module of all of them."""
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: torch.randn(slots, *parameter.shape, generator=generator)
        for name, parameter in module.named_parameters()
    }
    module.requires_grad_(False)
    forward = vmap(lambda own, x: functional_call(module, own, (x,)))
    return parameters, lambda x: forward(parameters, x)


def test_a_recorded_module_has_the_bits_of_the_module_also_with_other_parameters() -> None:
    parameters, function = batched(Written())
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        found = recorded(function, torch.randn(6, 4, generator=generator))
        assert found is not None
        for _ in range(3):
            x = torch.randn(6, 4, generator=generator)
            assert torch.equal(found(x), function(x))
            assert torch.equal(found(x), function(x)), "the second time"
            for parameter in parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=generator))


def test_what_writes_to_something_that_lasts_is_not_recorded() -> None:
    total = torch.zeros(3)
    with torch.inference_mode():
        assert recorded(lambda x: x + total.add_(1.0), torch.ones(3)) is None
        assert recorded(lambda x: torch.ones(3), torch.ones(3)) is not None
        assert recorded(lambda x: total, torch.ones(3)) is None
        assert recorded(lambda x: (x, x), torch.ones(3)) is None


def test_a_users_module_is_recorded_and_no_slot_depends_on_the_others() -> None:
    config = of_world(WORLDS["cartpole"])
    interface = Interface(4, 2, False)
    policy = make_policy(config.policy, interface)
    found: Any = make_batch_policy(config, policy, interface, torch.device("cpu"))
    assert found.is_recorded
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((64, policy.layout.size)).astype(np.float32)
    seen = rng.standard_normal((64, 4)).astype(np.float32)
    found.load(range(64), torch.from_numpy(vectors))
    whole = found.act(seen).copy()
    for slot in range(64):
        others = rng.standard_normal(vectors.shape).astype(np.float32)
        others[slot] = vectors[slot]
        found.load(range(64), torch.from_numpy(others))
        now = rng.standard_normal(seen.shape).astype(np.float32)
        now[slot] = seen[slot]
        assert found.act(now)[slot].tobytes() == whole[slot].tobytes()
