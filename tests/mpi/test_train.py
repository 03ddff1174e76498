"""Law 4: h after generation t is the same bits for any number of ranks, and any stop and resume."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from mpi4py import MPI

from esd.config.kinds import ALGORITHMS, OPTIMIZERS
from esd.config.settings import Config
from esd.evolution.openai_es import Strategy
from esd.evolution.records import Records
from esd.mpi.comm import Alone, Communicator, JobFailedError, Ranks, agreement
from esd.training.node_state import NodeState, Step, UpdateFailedError
from tests.helpers.configs import REMEMBERING, WORLDS, objective, remembering, small
from tests.helpers.training import StopInFirstGeneration, from_journal, trained

PENDULUM = ('env.id="Pendulum-v1"', "env.kwargs={}", "env.max_steps=60")
CASES = {
    **{
        f"{p}, {n}": small(p, f"env.normalize_observations={n}")
        for p, n in itertools.product(WORLDS, ("true", "false"))
        if n == "false" or not getattr(small(p).policy.settings, "convolutions", False)
    },
    **{
        f"pendulum, {o}, {n}": small(
            "pendulum",  # its returns are never equal, so every update counts
            f"es.optimizer={o}",
            f"env.normalize_observations={n}",
            "es.weight_decay=0.01",
        )
        for o, n in itertools.product(OPTIMIZERS.built_in, ("true", "false"))
    },
    **{
        f"pendulum, {noise}": small("pendulum", f"es.noise={noise}")
        for noise in ("rademacher", "binomial", "low_rank")
    },
    **{
        f"pendulum, {algorithm}": small(
            "pendulum", f"es.algorithm={algorithm}", "es.fitness_penalty=0.01"
        )
        for algorithm in ALGORITHMS.built_in
        if algorithm != "openai_es"
    },
    "pendulum, signs": small("pendulum", "es.shaping=sign"),
    **{f"{p}, compiled": remembering(p) for p in REMEMBERING},
    "objective": objective("noisy_sphere", "objective.evaluations_per_member=2"),
    "objective, several": objective(
        "tests.helpers.user_functions:several",
        'objective.values=["a", "b"]',
        'variants.reduce="mean_of_ranks"',
        x={"shape": [3], "initial": "uniform", "low": -1, "high": 1.5, "bounds": "transform"},
    ),
    "objective, cr_fm_nes": objective(
        "rosenbrock", 'es.algorithm="cr_fm_nes"', x={"shape": [5000], "initial": 0.5}
    ),
    "objective, failing": objective(
        "tests.helpers.user_functions:fails_above", "es.sigma=0.05", "es.learning_rate=0.01"
    ),
    **{
        f"{p}, step by step": remembering(p, *PENDULUM, "env.normalize_observations=true")
        for p in REMEMBERING
    },
}
# worlds of other engines take seconds, and nothing in them sees how many ranks there are: one number of ranks has them
ENGINES = ("ant", "car-racing", "cheetah", "halfcheetah", "walker")
HERE = [case for case in CASES if MPI.COMM_WORLD.size == 3 or not case.startswith(ENGINES)]


def h_alone(world: Communicator, config: Config, folder: Path) -> str:
    """The hash of h of rank 0 training alone; the others wait without burning a core."""
    own = trained(config, folder).state.h_sha256() if world.rank == 0 else ""
    return world.broadcast(own.encode(), "the reference").decode()


@pytest.mark.mpi
@pytest.mark.parametrize("case", HERE)
def test_h_is_the_same_bits_on_one_and_on_all_ranks(
    case: str, world: Communicator, folder: Path
) -> None:
    config = CASES[case]
    ending = trained(config, folder / "together", world)
    assert ending.state.generation == 5
    assert ending.state.h_sha256() == h_alone(world, config, folder / "alone")
    with agreement(world, "looking into the journal"):
        if world.rank == 0:
            assert from_journal(folder / "together").sha256() == ending.state.sha256()
            hashes = {from_journal(folder / "together", g).h_sha256() for g in range(6)}
            assert len(hashes) > 3, "h hardly changed: nothing was compared"


@pytest.mark.mpi
@pytest.mark.parametrize(
    "case",
    [
        "pendulum, adam, true",
        "halfcheetah, false",
        "reformer, compiled",
        "gru, step by step",
        "objective",
    ],
)
@pytest.mark.parametrize("wider", [True, False], ids=["then on more ranks", "then on fewer ranks"])
def test_a_stop_and_resume_on_another_number_of_ranks_changes_no_bit(
    case: str, wider: bool, world: Communicator, folder: Path
) -> None:
    config = CASES[case]
    reference = h_alone(world, config, folder / "reference")
    stopped_early = dataclasses.replace(config, generations=2)
    run = folder / "run"
    for part, on_all in ((stopped_early, not wider), (config, wider)):
        if on_all:
            ending = trained(part, run, world)
        elif world.rank == 0:
            ending = trained(part, run, Alone())
        world.broadcast(b"", "taking turns")
    hashes = world.broadcast(ending.state.h_sha256().encode() if world.rank == 0 else b"", "h")
    assert hashes.decode() == reference


@pytest.mark.mpi
def test_a_request_to_stop_on_one_rank_stops_all_after_the_same_generation(
    world: Communicator, folder: Path
) -> None:
    config = small("cartpole")
    stop = StopInFirstGeneration(world.rank == world.size - 1)
    ending = trained(config, folder / "run", world, stop)
    assert (ending.reason, ending.finished, ending.state.generation) == ("signal", False, 1)
    resumed = trained(config, folder / "run", world)
    assert resumed.finished
    assert resumed.state.h_sha256() == h_alone(world, config, folder / "alone")


@pytest.mark.mpi
def test_more_ranks_than_members_and_none_of_the_center(world: Communicator, folder: Path) -> None:
    config = small("cartpole", "population=2", "run.center_every=0")
    ending = trained(config, folder / "run", world)
    assert ending.state.h_sha256() == h_alone(world, config, folder / "alone")


@pytest.mark.mpi
@pytest.mark.parametrize("stops", [True, False], ids=["that is the last", "that others follow"])
def test_an_update_that_fails_on_one_node_ends_the_run_on_all_in_a_generation(
    stops: bool, world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other nodes have made theirs; they must not be in another exchange than the one that failed."""
    monkeypatch.setattr(Ranks, "node", lambda self: Alone().node())  # every rank a node of its own
    if world.rank == world.size - 1:

        def fail(memory: NodeState, records: Records) -> Step:
            raise UpdateFailedError(OSError("no memory"))

        monkeypatch.setattr(NodeState, "advance", fail)
    stop = StopInFirstGeneration(stops)
    with pytest.raises(JobFailedError) as caught:
        trained(small("cartpole"), folder / "run", world, stop)
    cause = caught.value.__cause__
    assert (world.rank == world.size - 1) == (str(cause) == "no memory")
    assert not (folder / "run" / "DONE.json").exists()


@pytest.mark.mpi
def test_a_resume_that_fails_on_one_rank_tells_its_reason(
    world: Communicator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(small("cartpole", "generations=2", "run.checkpoint_every=100"), folder / "run", world)
    with agreement(world, "losing the checkpoints"):
        if world.rank == 0:
            for checkpoint in (folder / "run" / "checkpoints").iterdir():
                checkpoint.unlink()
    if world.rank == world.size - 1:

        def fail(*arguments: object) -> None:
            raise OSError("no memory")

        monkeypatch.setattr(Strategy, "tell_slice", fail)
    with pytest.raises(JobFailedError) as caught:
        trained(small("cartpole"), folder / "run", world)
    cause = caught.value.__cause__
    assert (world.rank == world.size - 1) == (str(cause) == "no memory")
