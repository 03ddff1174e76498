"""Ranks that are lost in each collective of a run, whoever it is: the others finish it to the same h and journal."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.config.settings import Config
from esd.mpi.comm import JobFailedError
from esd.training import survivors
from esd.training.loop import Ending, Generations
from esd.training.node_state import NodeState
from tests.helpers.configs import objective
from tests.helpers.thread_ranks import KilledError, World
from tests.helpers.training import trained

SIZE, NODES = 4, 2
CONFIG = objective(
    "noisy_sphere", "population=10", "generations=4", "run.center_every=2", "run.center_episodes=3",
    "run.checkpoint_every=2", 'es.algorithm="cr_fm_nes"', x={"shape": [5000], "initial": 0.5},
)  # fmt: skip


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Threads that keep it for each other may leave another."""
    before = os.umask(0o022)
    yield
    os.umask(before)


class Reference:
    """What a run gives that loses nobody, and in which collectives each rank trains."""

    def __init__(self, folder: Path, config: Config) -> None:
        world = World(SIZE, NODES, {})
        began: list[int] = []
        before = Generations.__iter__

        def noted(self: Generations) -> Iterator[object]:
            began.append(max(world.collectives))
            return before(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Generations, "__iter__", noted)
            endings = world.run(lambda comm: trained(config, folder / "run", comm))
        assert all(isinstance(ending, Ending) for ending in endings), endings
        self.first, self.last = max(began), min(world.collectives) - 1
        self.journal = (folder / "run/journal.bin").read_bytes()
        self.h = endings[0].state.h_sha256()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    alone = trained(CONFIG, tmp_path_factory.mktemp("alone") / "run")  # compiles what it needs
    found = Reference(tmp_path_factory.mktemp("reference"), CONFIG)
    assert alone.state.h_sha256() == found.h
    return found


def survived(world: World, folder: Path, reference: Reference) -> int:
    """Train with the deaths of a world, compare, and say how many died."""
    outcomes = world.run(lambda comm: trained(CONFIG, folder / "run", comm))
    killed = [o for o in outcomes if isinstance(o, KilledError)]
    left = [o for o in outcomes if not isinstance(o, KilledError)]
    for ending in left:
        assert isinstance(ending, Ending), repr(ending)
        assert ending.finished
        assert ending.state.h_sha256() == reference.h
    assert (folder / "run/journal.bin").read_bytes() == reference.journal
    assert json.loads((folder / "run/DONE.json").read_text())["h_sha256"] == reference.h
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == list(range(5))
    return len(killed)


@pytest.mark.parametrize("whom", ["rank 0", "rank 0 as the last to be missed", "each in turn"])
def test_a_rank_may_be_lost_in_any_collective(
    whom: str, reference: Reference, tmp_path: Path
) -> None:
    for number in range(reference.last + 1):  # from the plan to the end
        if whom == "rank 0 as the last to be missed":
            # the others complete the collective, and go on: what rank 0 was to write is written by another
            world = World(SIZE, NODES, {0: (number, True)}, seed=number, fails=0.0)
        else:
            victim = 0 if whom == "rank 0" else number % SIZE
            world = World(SIZE, NODES, {victim: (number, number % 3 > 0)}, seed=number)
        assert survived(world, tmp_path / str(number), reference) == 1


@pytest.mark.parametrize("seed", range(30))
def test_several_ranks_may_be_lost_also_in_the_recovery_itself(
    seed: int, reference: Reference, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    first = dice.randrange(reference.first, reference.last)
    victims = dice.sample(range(SIZE), dice.randrange(2, SIZE))
    # a recovery has about twelve collectives
    deaths = {v: (first + dice.randrange(0, 14), dice.random() < 0.5) for v in victims}
    survived(World(SIZE, NODES, deaths, seed), tmp_path, reference)


def test_evaluations_of_the_survivors_are_not_made_again(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that has evaluated and dies in the exchange costs its own rows, and no others."""
    left: list[int] = []
    before = survivors._count_what_is_done

    def noted(run: Generations) -> None:
        before(run)
        assert run.work is not None
        left.append(len(run.work.rows))

    monkeypatch.setattr(survivors, "_count_what_is_done", noted)
    survived(World(SIZE, NODES, {2: (reference.first, False)}), tmp_path, reference)
    assert len(set(left)) == 1
    assert 0 < left[0] < 13  # of 10 members and 3 episodes of the center


def test_different_states_among_the_survivors_end_the_run(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = NodeState.state_at

    def one_bit(self: NodeState, generation: int) -> object:
        state = before(self, generation)
        if threading.current_thread().name == "rank 2":
            state.h[7] += 1.0
        return state

    monkeypatch.setattr(NodeState, "state_at", one_bit)
    world = World(3, 3, {1: (reference.first, False)})
    outcomes = world.run(lambda comm: trained(CONFIG, tmp_path / "run", comm))
    assert isinstance(outcomes.pop(1), KilledError)
    assert all(isinstance(outcome, JobFailedError) for outcome in outcomes), outcomes
    assert "differ between ranks" in str(outcomes[0].__cause__)
