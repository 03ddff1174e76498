"""A node whose memory has other bits is noticed before the run goes far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esd.errors import RunError
from esd.mpi.comm import Alone, Communicator, JobFailedError, Ranks, agreement
from esd.run import checkpoint
from esd.training.node_state import NodeState
from tests.helpers.configs import small
from tests.helpers.training import from_journal, trained

CONFIG = small("pendulum", "run.compare_nodes_every=2", "run.checkpoint_every=2")


@pytest.fixture(autouse=True)
def _nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank is a node of its own."""
    monkeypatch.setattr(Ranks, "node", lambda self: Alone().node())


def flip_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third update on one bit of this rank's h is another one."""
    advance = NodeState.advance

    def flipping(memory: NodeState, records: object) -> object:
        step = advance(memory, records)  # type: ignore[arg-type]
        if step.state.generation == 3:
            step.state.h.view(np.uint32)[5] ^= 1
        return step

    monkeypatch.setattr(NodeState, "advance", flipping)


@pytest.mark.mpi
@pytest.mark.parametrize("every", [1, 2], ids=["all kept are wrong", "the last one is wrong"])
def test_a_flipped_bit_on_one_node_stops_the_run_and_the_states_are_kept(
    every: int, world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if world.size == 1:
        pytest.skip("one node has nobody to disagree with")
    run = folder / "run"
    config = small("pendulum", "run.compare_nodes_every=2", f"run.checkpoint_every={every}")
    with monkeypatch.context() as patch:
        if world.rank == world.size - 1:
            flip_a_bit(patch)
        with pytest.raises(JobFailedError) as caught:
            trained(config, run, world)
    cause = caught.value.__cause__
    with agreement(world, "looking at what is left"):
        assert caught.value.exit_code == RunError.exit_code
        if world.rank == 0:
            text = str(cause)
            assert text.startswith("generation 4: nodes have computed different states since ")
            assert "generation 2" in text
            assert f"(rank {world.size - 1})" in text
            kept = sorted((run / "disagreement").glob("generation-*-rank-*"))
            assert len(kept) == world.size
            states = [checkpoint.load(path).state for path in kept]
            assert {state.generation for state in states} == {4}
            assert [s.h_sha256() == states[0].h_sha256() for s in states[1:]] == [
                *[True] * (world.size - 2),
                False,
            ]
            left = [path.name for path in (run / "checkpoints").glob("generation-*")]
            assert left == ([] if every == 1 else ["generation-00000002.safetensors"])
    ending = trained(config, run, world)  # without the fault
    assert ending.finished
    with agreement(world, "comparing with the journal"):
        if world.rank == 0:
            assert from_journal(run).sha256() == ending.state.sha256()


@pytest.mark.mpi
def test_nodes_that_agree_are_not_stopped_and_may_be_left_uncompared(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(CONFIG, folder / "run", world).finished
    assert not (folder / "run" / "disagreement").exists()
    if world.rank == world.size - 1:
        flip_a_bit(monkeypatch)
    config = small("pendulum", "run.compare_nodes_every=0")
    assert trained(config, folder / "other", world).finished
