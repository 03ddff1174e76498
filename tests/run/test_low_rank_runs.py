"""Runs with low-rank noise: every algorithm and kind of policy, resumed, rebuilt from the journal, in lock-step."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

import esd
from esd.commands.console import Quiet
from esd.config.identity import identity
from esd.config.kinds import ALGORITHMS
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse, to_table
from esd.errors import UsageError
from esd.evolution.layout import Layout
from esd.evolution.low_rank import LowRankNoise
from esd.evolution.state import make_strategy
from esd.mpi.comm import Alone
from esd.problems.make import make_problem
from esd.training.plan import Plan, TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import objective, remembering, small
from tests.helpers.training import from_journal, trained

LOW_RANK = ("es.noise=low_rank", "es.rank=2")
MODULE = {"kind": "tests.helpers.user_code:SmallModule", "kwargs": {"hidden": 33}}
KINDS: dict[str, Config] = {
    "hebbian, F": small("pendulum", *LOW_RANK, "policy.order=F", "policy.hidden=[12, 8]"),
    "static": small("cartpole-static", *LOW_RANK, "policy.hidden=[12]"),
    "reformer": remembering("reformer", "es.noise=low_rank"),
    "gru": remembering("gru", "es.noise=low_rank"),
    "module": parse(
        {
            **to_table(small("pendulum", "es.noise=low_rank")),
            "policy": MODULE,
        },
        "module",
    ),
    "own algorithm": small(
        "pendulum", "es.algorithm=tests.helpers.bad_algorithms:CLIMB", "es.noise=low_rank"
    ),
}


def has_matrices(config: Config) -> bool:
    problem = make_problem(config)
    noise = make_strategy(config, problem.layout).noise
    problem.close()
    return isinstance(noise, LowRankNoise) and bool(noise.matrices)


@pytest.mark.parametrize("algorithm", ALGORITHMS.built_in)
def test_every_algorithm_resumes_replays_and_plays_in_lock_step_to_the_same_bits(
    algorithm: str, tmp_path: Path
) -> None:
    config = small("pendulum", f"es.algorithm={algorithm}", "es.fitness_penalty=0.01", *LOW_RANK)
    assert has_matrices(config)
    whole = trained(config, tmp_path / "whole").state
    assert from_journal(tmp_path / "whole").sha256() == whole.sha256()
    trained(dataclasses.replace(config, generations=3), tmp_path / "parts")
    assert trained(config, tmp_path / "parts").state.sha256() == whole.sha256()
    together = trained(dataclasses.replace(config, batch_members=5), tmp_path / "lockstep").state
    assert together.sha256() == whole.sha256()
    gaussian = apply_settings(to_table(config), ["es.noise=gaussian", "es.rank=1"])
    other = trained(parse(gaussian, "gaussian"), tmp_path / "gaussian").state
    assert other.h_sha256() != whole.h_sha256()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_is_evolved_and_rebuilt_from_the_journal(
    kind: str, tmp_path: Path
) -> None:
    config = KINDS[kind]
    assert has_matrices(config)
    state = trained(config, tmp_path / "run").state
    assert state.generation == 5
    assert from_journal(tmp_path / "run").sha256() == state.sha256()


def test_an_array_parameter_of_an_objective_has_low_rank_and_the_journal_knows(
    tmp_path: Path,
) -> None:
    config = objective("sphere", "es.noise=low_rank", x={"shape": [20, 30], "initial": 0.5})
    state = trained(config, tmp_path / "run").state
    change = (state.h - np.float32(0.5)).reshape(20, 30).astype(np.float64)
    # of 7 pairs and 5 generations; sgd only adds them up
    assert np.linalg.matrix_rank(change, tol=1e-4) == min(20, 7 * 5)
    once = trained(dataclasses.replace(config, generations=1), tmp_path / "once").state
    first = (once.h - np.float32(0.5)).reshape(20, 30).astype(np.float64)
    assert np.linalg.matrix_rank(first, tol=1e-4) == 7
    assert from_journal(tmp_path / "run").sha256() == state.sha256()


class Told(Quiet):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("size", "expected"), [([20], 1), ([20, 30], 0)])
def test_a_start_notes_when_nothing_has_low_rank(
    size: list[int], expected: int, tmp_path: Path
) -> None:
    config = objective("sphere", "es.noise=low_rank", x={"shape": size, "initial": 0.5})
    told = Told()
    train(Alone(), Plan(config, tmp_path / "run", b"", None), StopRequest(), told)
    notes = [note for note in told.notes if "low_rank" in note]
    assert len(notes) == expected
    assert all("has no effect" in note for note in notes)


def test_a_run_is_not_gone_on_with_another_noise_or_rank(tmp_path: Path) -> None:
    config = small("pendulum", *LOW_RANK, "generations=1")
    trained(config, tmp_path)
    for setting, old in (
        ("es.rank=3", "es.rank = 3, but the run has 2"),
        ("es.rank=1", "es.rank"),
    ):
        request = TrainRequest(run=tmp_path, settings=(setting,))
        with pytest.raises(UsageError) as caught:
            make_plan(request, lambda text: None)
        assert old in str(caught.value)


def test_a_rank_without_low_rank_noise_is_refused_by_name() -> None:
    with pytest.raises(UsageError) as caught:
        parse(apply_settings({}, ["es.rank=4"]), "asked")
    assert 'es.rank = 4: only es.noise = "low_rank" has a rank' in str(caught.value)
    for wrong in ("0", "-1", "1.5", "two"):
        with pytest.raises(UsageError, match=r"es\.rank"):
            parse(apply_settings({}, ["es.noise=low_rank", f"es.rank={wrong}"]), "asked")
    kept = parse(apply_settings({}, [*LOW_RANK, "es.algorithm=snes"]), "asked")
    assert (kept.es.noise, kept.es.rank) == ("low_rank", 2)


def test_the_rank_is_no_part_of_the_identity_of_runs_without_it() -> None:
    config = Config()
    assert "rank" not in to_table(config, version=1)["es"]
    one, two = (
        parse(apply_settings({}, ["es.noise=low_rank", f"es.rank={r}"]), "asked") for r in (1, 2)
    )
    assert len({identity(config), identity(one), identity(two)}) == 3


def test_named_arrays_of_a_loop_of_ones_own_have_low_rank_and_a_vector_is_warned_of() -> None:
    arrays = {"w": np.zeros((30, 40)), "b": np.zeros(40)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evolution = esd.Evolution(
            arrays, direction="minimize", population=4, sigma=0.5, noise="low_rank", rank=2
        )
    with evolution:
        member = evolution.ask()[0]
        assert isinstance(member, dict)
        assert np.linalg.matrix_rank(member["w"].astype(np.float64), tol=1e-4) == 2
        evolution.tell([float(np.sum(m["w"] ** 2)) for m in evolution.ask()])  # type: ignore[index]
    with pytest.warns(UserWarning, match="has no effect"):
        esd.Evolution(
            np.zeros(9), direction="minimize", population=4, sigma=0.5, noise="low_rank"
        ).close()


def test_a_strategy_knows_the_arrays_of_h() -> None:
    config = small("pendulum", *LOW_RANK)
    noise = make_strategy(config, Layout({"w": (30, 40)}, "F")).noise
    assert isinstance(noise, LowRankNoise)
    assert (noise.rank, noise.seed, noise.layout.order) == (2, config.seed, "F")
