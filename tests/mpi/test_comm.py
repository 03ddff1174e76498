"""The scalar exchange on real ranks."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from esd.errors import UsageError
from esd.evolution.records import Records, Status
from esd.mpi.comm import Communicator, JobFailedError, Ranks, agreement, gather


@pytest.fixture
def world() -> Communicator:
    """All ranks."""
    return Ranks(MPI.COMM_WORLD, deadline_seconds=60.0)


@pytest.mark.mpi
def test_floats_travel_as_bits_and_none_is_changed(world: Communicator) -> None:
    special = [-0.0, 0.0, np.nan, -np.nan, np.inf, 5e-324, -1e308, 1.0]
    records = Records(len(special), 0, 0)
    for row in range(world.rank, len(special), world.size):
        records.write(row, returns=[special[row]], steps=1, episodes=1, status=Status.DONE)
    world.sum(records.table.reshape(-1), "test")
    assert records.all_written_once
    np.testing.assert_array_equal(
        records.returns[:, 0].view(np.uint64), np.array(special).view(np.uint64)
    )


@pytest.mark.mpi
def test_a_slot_written_twice_or_never_is_noticed(world: Communicator) -> None:
    for writers in (range(world.size + 1), range(0)):
        records = Records(1, 0, 0)
        if world.rank in writers:
            records.write(0, returns=[1.0], steps=1, episodes=1, status=Status.DONE)
        world.sum(records.table.reshape(-1), "test")
        expected_fine = len(writers) > 0 and world.size == 1
        assert records.all_written_once == expected_fine


@pytest.mark.mpi
@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_bytes_of_rank_0_reach_every_rank(length: int, world: Communicator) -> None:
    text = bytes(range(256)) * (length // 256 + 1)
    own = text[:length] if world.rank == 0 else b"ignored"
    assert world.broadcast(own, "test") == text[:length]


@pytest.mark.mpi
def test_gather_gives_every_ranks_number_in_order(world: Communicator) -> None:
    assert gather(world, 10 + world.rank, "test").tolist() == [10 + r for r in range(world.size)]


@pytest.mark.mpi
@pytest.mark.parametrize("culprits", [[0], [-1], [-1, 0]])
def test_what_fails_on_some_ranks_fails_on_all_with_one_reason(
    culprits: list[int], world: Communicator
) -> None:
    failing = {c % world.size for c in culprits}

    def body() -> None:
        with agreement(world, "test"):
            if world.rank in failing:
                raise UsageError(f"rank {world.rank} can't")

    with pytest.raises(JobFailedError) as failure:
        body()
    assert failure.value.exit_code == 2
    reason = failure.value.__cause__
    if world.rank == min(failing):
        assert str(reason) == f"rank {world.rank} can't"
    else:
        assert reason is None


@pytest.mark.mpi
def test_what_fails_nowhere_goes_on(world: Communicator) -> None:
    with agreement(world, "test"):
        pass
    assert gather(world, 1, "test").sum() == world.size


class EighthLook:
    """The ranks, and the request, of an exchange that is found done at the eighth look, as those over sockets are."""

    def __init__(self) -> None:
        self.looks = 0

    def Get_rank(self) -> int:  # noqa: N802
        return 0

    Get_size = Get_rank

    def Iallreduce(self, *_: object, op: object) -> EighthLook:  # noqa: N802
        return self

    def Test(self) -> bool:  # noqa: N802
        self.looks += 1
        return self.looks == 8


@pytest.mark.mpi
def test_a_message_from_another_host_is_seen_without_a_nap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = EighthLook()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("slept"))
    Ranks(exchange).sum(np.zeros(1, np.uint64), "test")  # type: ignore[arg-type]
    assert exchange.looks == 8
