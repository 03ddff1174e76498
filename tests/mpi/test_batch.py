"""Law 4 in lock-step: the same h on any number of ranks, whatever rows each rank gets to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.mpi.comm import Alone, Communicator
from tests.helpers.configs import small
from tests.helpers.training import trained
from tests.mpi.test_train import h_alone

MODULE = "policy.kind=tests.helpers.user_code:SmallModule"
CASES = {
    "hebbian": ("pendulum", "env.normalize_observations=true"),
    "hebbian on cartpole": ("cartpole",),
    "a module": ("pendulum", MODULE, "policy.kwargs={hidden = 33}"),
}


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("case", "batch_members"), [("hebbian", 3), ("hebbian on cartpole", 64), ("a module", 3)]
)
def test_h_in_lock_step_is_the_same_bits_on_one_and_on_all_ranks(
    case: str, batch_members: int, world: Communicator, folder: Path
) -> None:
    config = small(*CASES[case], f"batch_members={batch_members}")
    ending = trained(config, folder / "together", world)
    assert ending.state.generation == 5
    assert ending.state.h_sha256() == h_alone(world, config, folder / "alone")


@pytest.mark.mpi
@pytest.mark.parametrize("population", [14, 80])
def test_h_of_a_module_is_the_same_bits_for_any_ranks_and_any_number_of_members_at_a_time(
    population: int, world: Communicator, folder: Path
) -> None:
    settings = (*CASES["a module"], f"population={population}", "generations=3")
    reference = h_alone(world, small(*settings, "batch_members=3"), folder / "alone")
    whole = trained(small(*settings), folder / "together", world)
    assert whole.state.h_sha256() == reference
    for generations, batch_members in ((1, 64), (2, 0), (3, 5)):  # each goes on with the last
        words = (f"generations={generations}", f"batch_members={batch_members}")
        ending = trained(small(*settings, *words), folder / "resumed", world)
        world.broadcast(b"", "taking turns")
    assert ending.state.h_sha256() == reference


@pytest.mark.mpi
def test_lock_step_on_all_ranks_then_compiled_on_one_changes_no_bit_of_a_hebbian_run(
    world: Communicator, folder: Path
) -> None:
    reference = h_alone(world, small("pendulum"), folder / "reference")
    trained(small("pendulum", "generations=2", "batch_members=5"), folder / "run", world)
    world.broadcast(b"", "taking turns")
    last = trained(small("pendulum"), folder / "run", Alone()) if world.rank == 0 else None
    own = last.state.h_sha256() if last is not None else ""
    assert world.broadcast(own.encode(), "h").decode() == reference
