"""Code of the user's that fails on one rank alone: all ranks end, and that rank has the reason in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mpi4py import MPI

from esd.mpi.comm import Communicator, JobFailedError, Ranks
from tests.helpers import bad_algorithms, bad_policies
from tests.helpers.configs import small
from tests.helpers.training import trained

POLICY = f"{bad_policies.__name__}:Linear"
OPTIMIZER = f"{bad_algorithms.__name__}:Heavy"


@pytest.fixture
def world() -> Iterator[Communicator]:
    """All ranks that mpirun started; one is a real case."""
    comm = MPI.COMM_WORLD.Dup()
    yield Ranks(comm, 60.0)
    comm.Free()


def fails_on_the_last_rank(
    world: Communicator, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int
) -> None:
    """Let a method raise there after so many calls."""
    if world.rank != world.size - 1:
        return
    method, calls = getattr(owner, name), iter(range(after))

    def failing(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise SystemExit("theirs")
        return method(*arguments)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("setting", "owner", "name", "after"),
    [
        (f"policy.kind={POLICY}", bad_policies.Linear, "__init__", 0),
        (f"policy.kind={POLICY}", bad_policies.Linear, "initial_parameters", 0),
        (f"policy.kind={POLICY}", bad_policies.Linear, "reset", 20),
        (f"policy.kind={POLICY}", bad_policies.Linear, "act", 300),
        (f"policy.kind={POLICY}", bad_policies.Linear, "load", 4),
        (f"es.optimizer={OPTIMIZER}", bad_algorithms.Heavy, "initial_scalars", 0),
        (f"es.optimizer={OPTIMIZER}", bad_algorithms.Heavy, "step", 1),
    ],
)
def test_what_one_rank_sees_ends_all(
    setting: str,
    owner: Any,
    name: str,
    after: int,
    world: Communicator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails_on_the_last_rank(world, monkeypatch, owner, name, after)
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.raises(JobFailedError) as caught,
    ):
        trained(small("cartpole", setting), Path(folder) / "run", world)  # rank 0's folder counts
    cause = caught.value.__cause__
    assert (cause is not None) == (world.rank == world.size - 1)
    if cause is not None:
        call = "building it" if name == "__init__" else name
        assert str(cause).startswith(
            setting.replace("=", " = '") + f"': {call} raised SystemExit: theirs"
        )
