"""A member whose episode raises or takes too long ends the run, or ranks last: the same h whatever plays it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.evaluator import Rows
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.variant import VariantEnvironment
from esd.evolution.noise import Purpose
from esd.evolution.records import Status
from esd.mpi.comm import JobFailedError
from esd.run import journal
from tests.faults.poison_members import DEED, DEEDS, SEED
from tests.faults.poisons import MODULE, RUN_SEED, seed_of
from tests.helpers.configs import small
from tests.helpers.thread_ranks import World
from tests.helpers.training import from_journal, trained

GENERATION, MEMBER, POPULATION = 1, 5, 8
WORST = 'env.on_failure="worst"'
COMMON = (
    f"seed={RUN_SEED}", f"population={POPULATION}", "generations=3", 'es.common_random_numbers="none"',
    "run.center_episodes=1", "policy.hidden=[4]",
)  # fmt: skip


def poisoned(*more: str) -> Config:
    return small(
        "cartpole-static", *COMMON, f'env.id="{MODULE}:Poisoned-v0"', "env.max_steps=50", *more
    )


def reset_in_python(*more: str) -> Config:
    """A cart pole whose steps are compiled, and which begins episodes in Python."""
    return small(
        "cartpole-static", *COMMON, 'env.reset_options={"low"=-0.04, "high"=0.04}', "env.max_steps=40", *more
    )  # fmt: skip


def ranked_last(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The h of a run in which nothing raises, but the member's return is not finite."""
    before = Rows.write

    def write(self: Any, records: Any, state: Any, task: Any, outcome: Any, seen: Any) -> None:
        if (state.generation, task.member) == (GENERATION, MEMBER):
            nothing = (math.nan,) * len(outcome.returns)
            outcome = dataclasses.replace(outcome, returns=nothing, status=Status.NOT_FINITE)
        before(self, records, state, task, outcome, seen)

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "write", write)
        return trained(config, folder / "oracle").state.h_sha256()


def statuses(folder: Path) -> list[int]:
    records = dict(journal.scan(folder / "journal.bin").entries(GENERATION, GENERATION + 1))
    return records[GENERATION].table[:POPULATION, 3].tolist()


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_deed(deed: str) -> None:
        monkeypatch.setenv(DEED, deed)
        monkeypatch.setenv(SEED, str(seed_of("environment", GENERATION, MEMBER)))

    return set_deed


@pytest.mark.parametrize("way", ["one by one", "in lock-step", "on three ranks"])
@pytest.mark.parametrize("deed", ["raise RuntimeError", "sys.exit(0)", "os._exit(0)", "text"])
def test_what_an_environment_raises_for_one_member_ranks_it_last(
    way: str, deed: str, poison: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    config = poisoned(WORST, *(["batch_members=4"] if way == "in lock-step" else []))
    wanted = ranked_last(config, tmp_path, monkeypatch)
    poison(deed)
    run = tmp_path / "run"
    if way == "on three ranks" and "exit" not in deed:  # which is refused in a main thread alone
        endings = World(3, 1, {}).run(lambda comm: trained(config, run, comm))
        found = {ending.state.h_sha256() for ending in endings}
    else:
        found = {trained(config, run).state.h_sha256()}
    assert found == {wanted}
    expected = [0] * POPULATION
    expected[MEMBER] = Status.NO_RESULT
    assert statuses(run) == expected
    assert from_journal(run).h_sha256() == wanted


@pytest.mark.parametrize("more", ["", "batch_members=4"])
def test_it_ends_the_run_unless_such_members_are_to_rank_last(
    more: str, poison: Callable[[str], None], tmp_path: Path
) -> None:
    poison("raise RuntimeError")
    with pytest.raises(JobFailedError) as failed:
        trained(poisoned(*([more] if more else [])), tmp_path / "run")
    text = str(failed.value.__cause__)
    assert text.startswith("generation 1, member 5: env.id = ")
    assert "step 3: raised RuntimeError: the physics broke" in text


def test_no_episode_of_the_check_at_the_start_may_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever on_failure says: nothing can be compared that has no result."""
    monkeypatch.setenv(DEED, "raise RuntimeError")
    seeds = EpisodeSeeds.named(RUN_SEED, Purpose.CANARY, 0, 0, 0)
    monkeypatch.setenv(SEED, str(seeds.environment))
    for more, said in (("", False), (WORST, True)):
        with pytest.raises(JobFailedError) as failed:
            trained(poisoned(*([more] if more else [])), tmp_path / "run")
        text = str(failed.value.__cause__)
        assert "step 3: raised RuntimeError: the physics broke" in text
        assert ("No episode may fail in the check before the first generation" in text) == said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", ["", 'env.compiled="never"', "batch_members=4"])
@pytest.mark.parametrize("normalize", ["false", "true"])
def test_an_episode_of_compiled_steps_that_can_not_begin_ranks_its_member_last(
    more: str, normalize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = reset_in_python(WORST, f"env.normalize_observations={normalize}", *([more] if more else []))  # fmt: skip
    before, bad = VariantEnvironment.reset, seed_of("environment", GENERATION, MEMBER)
    wanted = ""
    if normalize == "false":  # the oracle's has sums of observations
        wanted = ranked_last(config, tmp_path, monkeypatch)

    def reset(self: VariantEnvironment, environment: Any, seed: int) -> Any:
        if seed == bad:

            def refuse(**given: Any) -> None:
                raise RuntimeError("no license")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(environment, "reset", refuse)
                return before(self, environment, seed)
        return before(self, environment, seed)

    monkeypatch.setattr(VariantEnvironment, "reset", reset)
    found = trained(config, tmp_path / "run").state.h_sha256()
    assert found == (wanted or found)
    assert np.flatnonzero(statuses(tmp_path / "run")).tolist() == [MEMBER]
    if "batch" in more:
        return  # threads share the generators that it looks at
    on_ranks = World(2, 1, {}).run(lambda comm: trained(config, tmp_path / "ranks", comm))
    assert {ending.state.h_sha256() for ending in on_ranks} == {found}


def test_an_environment_that_has_raised_is_made_anew(
    poison: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(*given: Any) -> Any:
        made.append(1)
        return make_environment(*given)

    monkeypatch.setattr("esd.episodes.variant.make_environment", counted)
    trained(poisoned(WORST), tmp_path / "healthy")
    healthy = len(made)
    poison("raise RuntimeError")
    trained(poisoned(WORST), tmp_path / "run")
    assert len(made) == 2 * healthy + 1


@pytest.mark.parametrize("more", ["", "batch_members=4"])
@pytest.mark.parametrize("deed", ["sleep for an hour", "loop for ever"])
def test_an_episode_that_takes_too_long_ranks_its_member_last_or_ends_the_run(
    more: str, deed: str, poison: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    config = poisoned(WORST, "env.episode_seconds=0.4", *([more] if more else []))
    wanted = ranked_last(config, tmp_path, monkeypatch)
    poison(deed)
    began = time.monotonic()
    assert trained(config, tmp_path / "run").state.h_sha256() == wanted
    assert time.monotonic() - began < 20.0
    assert np.flatnonzero(statuses(tmp_path / "run")).tolist() == [MEMBER]
    assert from_journal(tmp_path / "run").h_sha256() == wanted  # whatever the clock would say now
    stops = poisoned("env.episode_seconds=0.4", *([more] if more else []))
    with pytest.raises(JobFailedError) as failed:
        trained(stops, tmp_path / "stops")
    text = str(failed.value.__cause__)
    assert "generation 1, member 5: " in text
    assert "took longer than env.episode_seconds = 0.4" in text
    assert 'env.on_failure="worst"' in text


@pytest.mark.parametrize("more", ["", "batch_members=4"])
def test_an_environment_that_hangs_from_the_start_does_not_train(
    more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEED, "sleep for an hour")
    monkeypatch.setattr("tests.faults.poison_members.does_it", lambda seed: True)
    *others, seconds = Rollout.play.__defaults__ or ()
    assert seconds == 300.0
    monkeypatch.setattr(Rollout.play, "__defaults__", (*others, 0.1))
    with pytest.raises(JobFailedError) as failed:
        trained(poisoned(WORST, "env.episode_seconds=0.4", more or "device=cpu"), tmp_path / "run")
    assert "took longer than env.episode_seconds = 0.4" in str(failed.value.__cause__)
    assert not (tmp_path / "run").exists()


def test_a_time_limit_is_one_of_each_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten episodes of a member take longer than the limit, but none of them does."""
    monkeypatch.setitem(DEEDS, "pause", lambda: time.sleep(0.12))
    monkeypatch.setenv(DEED, "pause")
    monkeypatch.setattr("tests.faults.poison_members.does_it", lambda seed: True)
    for more in ([], ["batch_members=4"]):
        config = poisoned("env.episode_seconds=1.0", "env.episodes_per_member=10", *more)
        config = dataclasses.replace(config, population=2, generations=1)
        assert trained(config, tmp_path / str(len(more))).finished


def test_what_a_call_of_an_objective_raises_ends_the_run_if_it_is_to_stop(tmp_path: Path) -> None:
    from tests.helpers.configs import objective

    config = objective(
        "tests.helpers.user_functions:raises", 'objective.on_failure="stop"', "objective.check_at_start=false",
        "population=4", "generations=1", x={"shape": [2], "initial": 0.5},
    )  # fmt: skip
    with pytest.raises(JobFailedError) as failed:
        trained(config, tmp_path / "run")
    assert "generation 0, member 0: raised " in str(failed.value.__cause__)
    assert 'objective.on_failure = "worst"' in str(failed.value.__cause__)
