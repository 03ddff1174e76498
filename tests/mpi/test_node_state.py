"""The update that the ranks of a node make together has the bits of one that is made alone (laws 3 and 4)."""

from __future__ import annotations

import math
import mmap
import time
import tracemalloc

import numpy as np
import pytest

from esd.config.kinds import ALGORITHMS, OPTIMIZERS
from esd.errors import RunError
from esd.evolution.algorithm import Algorithm, AlgorithmKind
from esd.evolution.layout import Layout
from esd.evolution.low_rank import make_noise
from esd.evolution.noise import Noise, Purpose, normals
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.pgpe import PGPE
from esd.evolution.records import Records, Status
from esd.evolution.schedules import Decay
from esd.evolution.state import RunState, advance, start
from esd.evolution.vectors import euclidean_norm
from esd.mpi import shared
from esd.mpi.comm import Alone, Communicator, agreement
from esd.mpi.team import Team
from esd.training import node_state as update
from esd.training.node_state import NodeState, UpdateFailedError

POPULATION = 6
ALL = (
    *OPTIMIZERS.built_in,
    *(f"pgpe, {name}" for name in OPTIMIZERS.built_in),
    *(name for name in ALGORITHMS.built_in if name not in ("openai_es", "pgpe")),
)


def make_strategy(optimizer: str) -> Algorithm:
    """An algorithm by its name, or OpenAI-ES, or PGPE ("pgpe, adam"), with an optimizer."""
    noise = Noise("gaussian", 3)
    if optimizer in ALGORITHMS.built_in:
        kind: AlgorithmKind = ALGORITHMS.find(optimizer)
        return kind.build(kind.settings(sigma=0.1), noise, POPULATION, "mean")
    if optimizer.startswith("pgpe, "):
        made = make_optimizer(optimizer.removeprefix("pgpe, "))
        return PGPE(noise, POPULATION, 0.1, Decay(0.05, 0.9), made, weight_decay=0.1)
    return Strategy(
        Noise("gaussian", 3),
        POPULATION,
        Decay(0.1, 0.9),
        Decay(0.05, 0.9),
        make_optimizer(optimizer),
        weight_decay=0.1,
    )


def records_of(generation: int, observation_size: int = 2) -> Records:
    """Any fitness and any observations."""
    rng = np.random.default_rng(generation)
    records = Records(POPULATION, 0, observation_size)
    for row in range(POPULATION):
        records.write(
            row,
            returns=[rng.normal()],
            steps=1,
            episodes=1,
            status=Status.DONE,
            observations=np.array([3.0, *rng.normal(size=observation_size), 5.0, 6.0]),
        )
    return records


def first_state(strategy: Algorithm, size: int) -> RunState:
    return start(strategy, normals(1, Purpose.INITIAL_H, size), 2)


@pytest.mark.mpi
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * 4096, 300_000])
@pytest.mark.parametrize("optimizer", ALL)
def test_states_and_norms_are_those_of_one_rank_alone(
    optimizer: str, size: int, node: Communicator
) -> None:
    """Also with more ranks than blocks of 4,096 coordinates, and with slices of several pieces."""
    strategy = make_strategy(optimizer)
    expected = first_state(strategy, size)
    memory = NodeState(Team(node), strategy, first_state(strategy, size))
    alone = NodeState(Team(Alone()), strategy, first_state(strategy, size))
    for generation in range(4):
        records = records_of(generation)
        before, expected = expected, advance(strategy, expected, records)
        step = memory.advance(records)
        agreed = alone.advance(records).gradient_agreement
        with agreement(node, "comparing"):
            assert step.state.sha256() == expected.sha256() == memory.state.sha256()
            assert step.h_norm == euclidean_norm(expected.h)
            assert step.update_norm == euclidean_norm(expected.h - before.h)
            assert step.gradient_agreement == agreed
            assert agreed is not None
            assert -1.000001 <= agreed <= 1.000001


@pytest.mark.mpi
@pytest.mark.parametrize("algorithm", ALGORITHMS.built_in)
def test_slices_of_low_rank_noise_are_those_of_one_rank_alone(
    algorithm: str, node: Communicator
) -> None:
    """Rows are cut in the middle by slices and by pieces."""
    layout = Layout({"w": (300, 401), "b": (77,), "v": (64, 100), "wide": (3, 30_000)})
    kind: AlgorithmKind = ALGORITHMS.find(algorithm)
    noise = make_noise("low_rank", 3, 2, layout)
    strategy = kind.build(kind.settings(sigma=0.1), noise, POPULATION, "mean")
    expected = first_state(strategy, layout.size)
    memory = NodeState(Team(node), strategy, expected)
    for generation in range(3):
        records = records_of(generation)
        expected = advance(strategy, expected, records)
        step = memory.advance(records)
        with agreement(node, "comparing"):
            assert step.state.sha256() == expected.sha256()


@pytest.mark.mpi
def test_more_sums_than_ranks_show_each_other_at_once_are_gathered_in_order(
    node: Communicator,
) -> None:
    strategy = make_strategy("sgd")
    memory = NodeState(Team(node), strategy, first_state(strategy, 5 * 4096 + 1))
    blocks = memory._blocks
    rows = np.arange(update.ROWS * 2 + 3, dtype=np.float64)[:, None]
    expected = 1000.0 * rows + np.arange(6)
    for count in (1, update.ROWS, update.ROWS + 1, len(rows)):
        gathered = memory._gather(expected[:count, blocks])
        with agreement(node, "comparing"):
            np.testing.assert_array_equal(gathered, expected[:count])


@pytest.mark.mpi
def test_the_state_before_is_still_there_after_an_update(node: Communicator) -> None:
    """Rank 0 keeps it as the best checkpoint, while the others may be in the next generation already."""
    strategy = make_strategy("adam")
    memory = NodeState(Team(node), strategy, first_state(strategy, 10_000))
    memory.advance(records_of(0))
    before, digest = memory.state, memory.state.sha256()
    memory.advance(records_of(1))
    with agreement(node, "comparing"):
        assert before.sha256() == digest != memory.state.sha256()


@pytest.mark.mpi
def test_a_generation_without_members_changes_nothing(node: Communicator) -> None:
    strategy = make_strategy("clipup")
    memory = NodeState(Team(node), strategy, first_state(strategy, 10_000))
    digest = memory.state.sha256()
    step = memory.advance(Records(0, 3, 2))
    with agreement(node, "comparing"):
        assert step.state.sha256() == digest
        assert (step.h_norm, step.update_norm) == (euclidean_norm(step.state.h), 0.0)


@pytest.mark.mpi
@pytest.mark.parametrize("optimizer", ["adam", "pgpe, clipup", "snes", "cr_fm_nes"])
def test_a_replay_goes_on_from_any_state_by_what_followed_it(
    optimizer: str, node: Communicator
) -> None:
    strategy = make_strategy(optimizer)
    whole = NodeState(Team(node), strategy, first_state(strategy, 9_000))
    entries = [(t, records_of(t)) for t in range(5)]
    whole.replay(entries[:2])
    later = NodeState(Team(node), strategy, whole.state)
    whole.replay(entries)
    later.replay(entries)
    with agreement(node, "comparing"):
        assert whole.state.generation == 5
        assert whole.state.sha256() == later.state.sha256()


@pytest.mark.mpi
@pytest.mark.parametrize("optimizer", ["adam", "cr_fm_nes"])
def test_a_replay_waits_for_no_rank_that_is_late_to_leave_an_update(
    optimizer: str, node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the update's own meetings keeps the ranks together in a replay, and some wake up late from them."""
    strategy = make_strategy(optimizer)
    memory = NodeState(Team(node), strategy, first_state(strategy, 20_000))
    if node.rank == 0:
        meet = memory._meet

        def oversleep(error: Exception | None) -> None:
            meet(error)
            time.sleep(0.01)

        monkeypatch.setattr(memory, "_meet", oversleep)
    with agreement(node, "replaying"):
        memory.replay((t, records_of(t)) for t in range(20))
        assert memory.state.generation == 20


@pytest.mark.mpi
@pytest.mark.parametrize("optimizer", ["sgd", "clipup", "pgpe, adam", "snes", "cr_fm_nes"])
def test_a_failure_on_one_rank_is_known_to_all_of_the_node(
    optimizer: str, node: Communicator
) -> None:
    """Also with an optimizer in whose norms the others wait."""
    strategy = make_strategy(optimizer)
    memory = NodeState(Team(node), strategy, first_state(strategy, 50_000))
    records = records_of(0)
    if node.rank == node.size - 1:  # one that tell_slice refuses
        records = Records.of_table(np.ones((4, 11), np.uint64), 4)
    with pytest.raises(UpdateFailedError) as caught:
        memory.advance(records)
    with agreement(node, "looking"):
        assert isinstance(caught.value.reason, ValueError) == (node.rank == node.size - 1)


@pytest.mark.mpi
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_norm_that_is_not_finite_tells_of_such_an_h_on_all_ranks(
    value: float, node: Communicator
) -> None:
    strategy = Strategy(
        Noise("gaussian", 3), POPULATION, Decay(0.1), Decay(0.05), make_optimizer("sgd"), "raw"
    )
    state = first_state(strategy, 20_000)
    state.h[-1] = value
    step = NodeState(Team(node), strategy, state).advance(records_of(0))
    with agreement(node, "looking"):
        assert not math.isfinite(step.h_norm)


@pytest.mark.mpi
def test_memory_that_cannot_be_had_is_an_error_with_its_size(
    node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if node.size == 1:
        pytest.skip("one rank needs no shared memory")
    monkeypatch.setattr(shared, "open_together", lambda node, size: None)
    strategy = make_strategy("adam")
    with pytest.raises(RunError, match=r"need 6\d\.\d MB"):  # 2 buffers of 3 vectors, 4 bytes each
        NodeState(Team(node), strategy, first_state(strategy, 2_600_000))


@pytest.mark.mpi
def test_memory_that_one_rank_cannot_map_is_an_error_on_all(
    node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank whose address space is limited, say; the others must not wait for it."""

    def full(descriptor: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    strategy = make_strategy("adam")
    state = first_state(strategy, 10_000)
    if node.rank == node.size - 1:
        monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(RunError, match=r"need 0\.2 MB of memory .*but it could not be allocated"):
        NodeState(Team(node), strategy, state)


@pytest.mark.mpi
def test_an_update_allocates_no_vector_of_the_size_of_h() -> None:
    strategy = make_strategy("adam")
    size = 4_000_000
    memory = NodeState(Team(Alone()), strategy, first_state(strategy, size))
    memory.advance(records_of(0))
    tracemalloc.start()
    memory.advance(records_of(1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size  # bytes: a quarter of a float32 vector


@pytest.mark.mpi
@pytest.mark.parametrize("optimizer", ["sgd", "clipup", "cr_fm_nes"])
def test_a_long_replay_on_ranks_of_unequal_speed_is_the_run(
    optimizer: str, node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the update itself keeps the ranks in step: a fast one must not spoil what a slow one reads."""
    strategy = make_strategy(optimizer)
    expected = first_state(strategy, 3 * 4096)
    memory = NodeState(Team(node), strategy, first_state(strategy, 3 * 4096))
    meet = NodeState._meet

    def limp(self: NodeState, error: Exception | None) -> None:
        meet(self, error)
        if node.rank == 0:
            time.sleep(0.002)

    monkeypatch.setattr(NodeState, "_meet", limp)
    found, wanted = [], []
    for generation in range(30):
        before, expected = expected, advance(strategy, expected, records_of(generation))
        step = memory.advance(records_of(generation))
        found.append((step.h_norm, step.update_norm))
        wanted.append((euclidean_norm(expected.h), euclidean_norm(expected.h - before.h)))
    with agreement(node, "comparing"):  # now that no rank waits for another
        assert found == wanted
        assert memory.state.sha256() == expected.sha256()
