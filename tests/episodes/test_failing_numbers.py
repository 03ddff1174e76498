"""Numbers that float32 or arithmetic can't hold: who fails, and what is said of it on every way to play."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from esd.config.settings import Config
from esd.doctor import purity
from esd.doctor.machine import Verdict
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.episodes.spaces import ObservationFlattener
from esd.errors import RunError
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records, Status
from esd.evolution.state import make_strategy, start
from esd.problems.episodes import EpisodesProblem, make_player
from tests.helpers import odd
from tests.helpers.configs import of_table
from tests.helpers.odd_configs import (
    ODD,
    SEEDS,
    VECTOR,
    always,
    config_of,
)


def test_not_finite_in_every_episode_at_the_start_is_refused() -> None:
    def refusing(config: Config) -> None:
        rollout = Rollout(config)
        rollout.evaluate(rollout.policy.initial_parameters(0), SEEDS)
        rollout.environments.refuse_never_finite()

    bad = {"change": always(math.nan), "of": "reward"}
    with pytest.raises(BrokenEnvironmentError, match=r"step 3: the reward is nan\. No episode"):
        refusing(config_of(**bad))
    refusing(config_of(**bad, first=2))  # some were finite
    refusing(config_of(**bad, format=1))


def seen_by_the_network(format: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """What a network sees of a clock, float32 [steps, 2], and sums and squares, with statistics of nine steps."""
    env = {"id": f"{ODD}:Clock-v0", "normalize_observations": True, "kwargs": {"dtype": dtype}}
    rollout = Rollout(of_table(env=env, format=format))
    times = odd.Clock.START + 500.0 * np.arange(9)
    statistics = ObservationStatistics(
        9.0, np.array([times.sum(), 0.0]), np.array([(times * times).sum(), 9.0])
    )
    rollout.use_statistics(statistics)
    rollout.load([(0, rollout.policy.initial_parameters(0))])
    seen: list[np.ndarray] = []
    act = rollout.policy.act

    def watched(observation: np.ndarray) -> np.ndarray:
        seen.append(observation.copy())
        return act(observation)

    rollout.policy.act = watched  # type: ignore[method-assign]
    observed = rollout.observed(rollout.play(SEEDS[:1]))
    assert observed is not None
    return np.array(seen), observed


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_timestamp_is_normalized_from_all_its_digits(dtype: str) -> None:
    seen, observed = seen_by_the_network(2, dtype)
    times = odd.Clock.START + 500.0 * np.arange(9)
    assert observed[0] == 9
    assert observed[1] == times.sum()
    assert observed[3] == (times * times).sum()
    assert seen.dtype == np.float32
    expected = (times - times.mean()) / times.std()
    np.testing.assert_allclose(seen[:, 0], expected, rtol=1e-3, atol=1e-6)


def test_runs_of_the_first_format_still_cast_it_first() -> None:
    seen, observed = seen_by_the_network(1)
    times = (odd.Clock.START + 500.0 * np.arange(9)).astype(np.float32).astype(np.float64)
    assert observed[1] == times.sum() != (odd.Clock.START + 500.0 * np.arange(9)).sum()
    assert np.abs(seen[:, 0] - seen_by_the_network(2)[0][:, 0]).max() > 0.01


def test_what_float32_holds_has_the_same_bits_either_way() -> None:
    space = spaces.Box(-10.0, 10.0, (3,), np.float64)
    double, single = (ObservationFlattener(space, "test", format, True) for format in (2, 1))
    assert (double.buffer.dtype, single.buffer.dtype) == (np.float64, np.float32)
    scale = (np.array([0.1, -2.0, 3.0]), np.array([0.7, 3.0, 1e-3]))
    sums = np.zeros((2, 2, 3))
    values = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    for value in values:
        both = []
        for number, flattener in enumerate((double, single)):
            assert flattener.take(value.astype(np.float64))
            both.append(flattener.normalize(flattener.buffer, scale, sums[number]).tobytes())
        assert both[0] == both[1]
    assert sums[0].tobytes() == sums[1].tobytes()
    assert ObservationFlattener(VECTOR, "test", 2, True).buffer.dtype == np.float32


def test_lockstep_normalizes_timestamps_to_the_same_bits() -> None:
    env = {"id": f"{ODD}:Clock-v0", "normalize_observations": True, "max_steps": 7}
    config = of_table(env=env, batch_members=3, population=4)
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    state = start(algorithm, rollout.policy.initial_parameters(0), 2)
    times = odd.Clock.START + 500.0 * np.arange(9)
    statistics = ObservationStatistics(
        9.0, np.array([times.sum(), 0.0]), np.array([(times * times).sum(), 9.0])
    )
    state = dataclasses.replace(state, observations=statistics)
    tables = []
    for player in (OneByOne(rollout, algorithm), make_player(rollout, algorithm, 1, 0)):
        records = Records(4, 1, 2)
        player.fill(state, iter(range(5)), records)
        player.close()
        tables.append(records.table)
    np.testing.assert_array_equal(tables[0], tables[1])


@pytest.mark.parametrize("slots", [0, 3])
def test_a_generation_names_the_member_whose_environment_failed(
    slots: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def filled(**kwargs: Any) -> Records:
        config = dataclasses.replace(config_of(**kwargs), batch_members=slots, population=4)
        rollout = Rollout(config)
        algorithm = make_strategy(config, rollout.policy.layout)
        state = start(algorithm, rollout.policy.initial_parameters(0), 0)
        player = make_player(rollout, algorithm, 1, 0)
        records = Records(4, 1, 0)
        try:
            player.fill(state, iter(range(5)), records)
        finally:
            player.close()
            rollout.close()
        return records

    wrong = {"change": always(None), "of": "reward", "first": 1}
    with pytest.raises(RunError) as caught:
        filled(**wrong)
    assert re.fullmatch(
        rf"generation 0, (member \d|the center): env.id = '{ODD}:Odd-v0', step 3: the reward is None: "
        "expected one real number",
        str(caught.value),
    )
    with pytest.raises(
        RunError, match=r"generation 0, member 0: .*step 3: raised OSError: gone"
    ) as caught:
        filled(change=always(OSError("gone")))
    assert isinstance(caught.value.__cause__, OSError)
    capfd.readouterr()
    nan = {"change": always(np.full((2, 3), np.nan)), "of": "observation"}
    for at in (0, 3):
        records = filled(**nan, at=at)
        assert records.rows_with(Status.NOT_FINITE).tolist() == [0, 1, 2, 3, 4]
        assert records.table[:, 1].tolist() == [at] * 5  # steps
        call = f"step {at}" if at else "reset"
        assert re.fullmatch(
            rf"esd: generation 0, member 0 counts as failed: env.id = '{ODD}:Odd-v0', {call}: the observation is not "
            r"finite: number 0 of its 6 \(counted from 0\) is nan as float32\n",
            capfd.readouterr().err,
        )


def test_a_compiled_episode_that_fails_says_why_and_has_the_bits_of_a_stepwise_one() -> None:
    """Without a mass the second observation is NaN."""
    env = {"id": "esd/HiddenPendulum-v0", "normalize_observations": True}
    outcomes = []
    for stepwise in (False, True):
        rollout = Rollout(of_table(env=env))
        assert rollout.compiled
        environment: Any = rollout.environments._all[0].begin().unwrapped
        environment.compiled.parameters[:5] = np.nan  # mass, length and so on, not where it begins
        rollout.use_statistics(ObservationStatistics.empty(3))
        rollout.load([(0, rollout.policy.initial_parameters(0))])
        outcomes.append(rollout.play(SEEDS[:2], stepwise=stepwise))
        observed = rollout.observed(outcomes[-1])
        assert observed is not None
        assert observed.tolist() == [0.0] * 7
    assert repr(outcomes[0]) == repr(outcomes[1])
    assert outcomes[0].failure == outcomes[1].failure
    assert "the observation is not finite" in outcomes[0].failure


def test_the_canary_refuses_what_is_never_finite_but_not_what_is_now_and_then() -> None:
    def started(share: float, seed: int) -> None:
        env = {"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"share": share}}
        config = of_table(env=env, seed=seed)
        problem = EpisodesProblem(config)
        algorithm = make_strategy(config, problem.layout)
        evaluator = problem.evaluator(algorithm, 1, 0)
        evaluator.canary(problem.initial_parameters(seed), 3)

    for seed in range(8):
        started(0.3, seed)
    with pytest.raises(BrokenEnvironmentError, match=r"step 3: the reward is nan\. No episode"):
        started(1.0, 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("change", "of", "message"),
    [
        (always(None), "reward", "step 3: the reward is None"),
        (always(np.zeros(7)), "observation", "step 3: the observation is a numpy.ndarray of shape (7,)"),
        (always(OSError("gone")), "", "step 3: raised OSError: gone (odd.py, line "),
    ],
)  # fmt: skip
def test_the_doctor_says_the_same_line(change: Any, of: str, message: str) -> None:
    config = config_of(change=change, of=of).env
    found = {check.name: check for check in purity.examine(config, 30)}
    assert found["plays"].state is Verdict.FAILED
    assert found["plays"].text.startswith(f"env.id = '{ODD}:Odd-v0', {message}")
