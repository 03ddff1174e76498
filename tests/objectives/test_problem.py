"""An objective as a problem: law 1, signs, seeds, failures, and what is checked at the start."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import esd
from esd.config.settings import Config
from esd.errors import RunError, UsageError
from esd.evolution.layout import Layout
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import JobFailedError
from esd.objectives.problem import ObjectiveProblem
from esd.problems.make import layout_and_h0, make_problem
from esd.run import metrics
from esd.run.folder import RunFolder
from tests.helpers import user_functions
from tests.helpers.configs import objective
from tests.helpers.training import from_journal, trained

HERE = "tests.helpers.user_functions"


def filled(
    config: Config, rows: list[int], generation: int = 3, center: int = 2
) -> tuple[Records, RunState]:
    """Records of a generation, rows evaluated in the order given, from a state at h_0."""
    problem = ObjectiveProblem(config)
    algorithm = make_strategy(config, problem.layout)
    state = start(algorithm, problem.initial_parameters(config.seed), 0)
    state.evolution.__dict__["generation"] = generation
    records = Records(config.population, center, 0, len(problem.variants))
    problem.evaluator(algorithm, 1, 0).fill(state, iter(rows), records)
    return records, state


@pytest.mark.parametrize(
    "config",
    [
        objective("noisy_sphere"),
        objective(f"{HERE}:global_noise"),
        objective(f"{HERE}:scribbles"),
        objective(f"{HERE}:several", 'objective.values=["a", "b"]'),
        objective(f"{HERE}:seeded", "objective.evaluations_per_member=3"),
    ],
    ids=lambda config: config.objective.function.rpartition(":")[2],
)
def test_a_member_evaluated_first_last_twice_or_alone_gives_the_same_bits(config: Config) -> None:
    rows = list(range(config.population + 2))
    forward = filled(config, rows)[0].table
    backward = filled(config, rows[::-1])[0].table
    twice = filled(config, [5, 5, 0, *rows])[0].table
    alone = filled(config, [5])[0].table
    assert forward.tobytes() == backward.tobytes() == twice.tobytes()
    assert forward[5].tobytes() == alone[5].tobytes()


def test_records_hold_the_maximized_value_of_what_the_function_gave() -> None:
    minimized, state = filled(objective("sphere"), [4])
    maximized, _ = filled(objective("sphere", 'objective.direction="maximize"'), [4])
    algorithm = make_strategy(objective("sphere"), Layout({"x": state.h.shape}))
    h = algorithm.ask(state.evolution, 4, np.empty_like(state.h))
    expected = float(np.sum(h.astype(np.float64) ** 2))
    assert minimized.returns[4, 0] == -expected
    assert maximized.returns[4, 0] == expected


@pytest.mark.parametrize(
    ("sharing", "equal"),
    [
        ("none", []),
        ("pair", [(0, 1), (4, 5)]),
        ("generation", [(0, 1), (4, 5), (0, 4), (1, 9)]),
    ],
)
def test_seeds_are_shared_as_common_random_numbers_says(
    sharing: str, equal: list[tuple[int, int]]
) -> None:
    config = objective(f"{HERE}:returns_the_seed", f'es.common_random_numbers="{sharing}"')
    rows = list(range(config.population))
    seeds = filled(config, rows)[0].returns[:, 0]
    later = filled(config, rows, generation=4)[0].returns[:, 0]
    for one, other in [(0, 1), (4, 5), (0, 4), (1, 9)]:
        assert (seeds[one] == seeds[other]) == ((one, other) in equal)
    assert not {*seeds} & {*later}, "seeds of another generation"
    assert all(0 <= -seed < 2**31 for seed in seeds)


def test_the_center_has_the_same_seeds_in_every_generation_and_none_of_training() -> None:
    config = objective(f"{HERE}:returns_the_seed")
    first, _ = filled(config, list(range(16)), generation=1)
    second, _ = filled(config, list(range(16)), generation=2)
    assert first.center_returns.tolist() == second.center_returns.tolist()
    assert len({*first.center_returns[:, 0]}) == 2
    assert not {*first.center_returns[:, 0]} & {*first.returns[:, 0]}


def test_several_evaluations_are_averaged_each_with_a_seed_of_its_own() -> None:
    """The mean of three seeds is a third of a sum of integers, and differs from each."""
    once, _ = filled(objective(f"{HERE}:returns_the_seed"), [0])
    thrice, _ = filled(
        objective(f"{HERE}:returns_the_seed", "objective.evaluations_per_member=3"), [0]
    )
    assert thrice.returns[0, 0] != once.returns[0, 0]
    assert abs(thrice.returns[0, 0] * 3 - round(thrice.returns[0, 0] * 3)) < 1e-6
    assert (thrice.steps, thrice.episodes, once.steps) == (3, 3, 1)


def test_the_center_of_a_function_without_a_seed_is_evaluated_once() -> None:
    assert ObjectiveProblem(objective("sphere")).center_episodes == 1
    assert ObjectiveProblem(objective("noisy_sphere")).center_episodes == 3


def test_a_failed_call_is_a_failed_member_and_the_first_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = objective(f"{HERE}:fails_above", "es.sigma=1.0")
    records, state = filled(config, list(range(config.population)))
    failed = records.rows_with(Status.NOT_FINITE)
    assert 0 < failed.size < config.population
    assert np.isnan(records.returns[failed]).all()
    assert np.isfinite(np.delete(records.returns, failed, axis=0)).all()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    pattern = (
        rf"esd: objective.function = '{HERE}:fails_above', generation 3, member {failed[0]} counts as failed: "
        r"raised ValueError: x is [\d.]+ \(user_functions.py, line \d+\)"
    )
    assert re.fullmatch(pattern, lines[0])
    # a long run in which few members fail would else print a line per generation
    problem = ObjectiveProblem(config)
    evaluator = problem.evaluator(make_strategy(config, problem.layout), 1, 0)
    for _ in range(3):
        evaluator.fill(state, iter(range(config.population)), Records(config.population, 2, 0, 1))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_failed_call_ends_the_evaluations_of_its_member() -> None:
    config = objective(f"{HERE}:raises", "objective.evaluations_per_member=5")
    assert filled(config, [0])[0].steps == 1


@pytest.mark.parametrize("how", ["raise", "nan", "sleep"])
def test_training_goes_on_past_failed_members(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = objective(
        f"{HERE}:fails_above",
        f'objective.kwargs={{how="{how}", limit=1.0}}',
        "objective.max_seconds=0.05",
        "es.sigma=0.3",
    )
    ending = trained(config, tmp_path / "run")
    assert ending.finished
    assert from_journal(tmp_path / "run").sha256() == ending.state.sha256()
    lines = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert sum(line["failed_members"] for line in lines) > 0
    assert "counts as failed" in capsys.readouterr().err


def test_too_many_failed_members_end_a_run_with_a_message_that_fits(tmp_path: Path) -> None:
    config = objective(
        f"{HERE}:fails_above",
        "objective.kwargs.limit=0.5",
        "es.sigma=9.0",
        "run.max_failed_share=0.1",
    )
    with pytest.raises(JobFailedError) as caught:
        trained(config, tmp_path / "run")
    assert isinstance(caught.value.__cause__, RunError)
    assert re.fullmatch(
        rf"generation 0: \d+ of 14 members have no fitness, more than run.max_failed_share = 0.1 allows. Calls of "
        rf"{HERE}:fails_above failed, and the first failure is reported above: fix its cause, add bounds to the "
        r"parameters \(low, high\), or reduce es.sigma",
        str(caught.value.__cause__),
    )


def refused_at_start(config: Config, folder: Path) -> str:
    with pytest.raises(JobFailedError) as caught:
        trained(config, folder)
    assert isinstance(caught.value.__cause__, UsageError)
    assert not folder.exists(), "nothing is written before the check"
    return str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("returns", ['objective.kwargs={what="nan"}'], "returned nan, expected a finite number"),
        ("returns", ['objective.kwargs={what="text"}'], "returned '12' (str), expected a number"),
        ("exits", [], "raised SystemExit: 3 ("),
        ("sleeps", ["objective.max_seconds=0.05"], "took longer than objective.max_seconds = 0.05"),
        (
            "returns",
            ['objective.kwargs={what="two"}', 'objective.values=["a", "b", "c"]'],
            "returned an array of shape (2,), expected 3 numbers: objective.values = ['a', 'b', 'c']",
        ),
    ],
)
def test_what_fails_at_the_initial_parameters_is_refused_before_anything_is_written(
    name: str, settings: list[str], message: str, tmp_path: Path
) -> None:
    text = refused_at_start(objective(f"{HERE}:{name}", *settings), tmp_path / "run")
    start = f"objective.function = '{HERE}:{name}', at the initial parameters: {message}"
    assert text.startswith(start)


def test_an_impure_function_is_refused_unless_drift_is_allowed(tmp_path: Path) -> None:
    text = refused_at_start(objective(f"{HERE}:impure"), tmp_path / "run")
    assert re.fullmatch(
        rf"objective.function = '{HERE}:impure': gave (\d+).0 and then (\d+).0 for the same parameters and the same "
        r"seed, so the run could not be reproduced. Draw random numbers only from a generator made from the "
        r"argument seed, keep no state between calls, or accept it with run.allow_drift = true",
        text,
    )
    assert trained(objective(f"{HERE}:impure", "run.allow_drift=true"), tmp_path / "run").finished


BETWEEN = "because other parameters were evaluated in between: it keeps state between calls"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("best_so_far", [], BETWEEN),
        ("centered", [], BETWEEN),
        ("raises_after_others", [], "and then raised RuntimeError: the licence is in use"),
        ("fails_elsewhere", [], ""),
        ("scribbles", [], ""),
        ("changes_its_arguments", ["objective.kwargs={offsets=[[]]}"], ""),
    ],
)
def test_calls_in_another_order_give_the_same_values_or_are_refused(
    name: str, settings: list[str], message: str, tmp_path: Path
) -> None:
    user_functions.BEST.clear()
    user_functions.KEPT.clear()
    config = objective(f"{HERE}:{name}", *settings)
    problem = make_problem(config)
    evaluator = problem.evaluator(make_strategy(config, problem.layout), 1, 0)
    h0 = problem.initial_parameters(config.seed)
    if message:
        with pytest.raises(UsageError) as caught:
            evaluator.canary(h0, 3)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        assert evaluator.canary(h0, 3) == evaluator.canary(h0, 3)
    assert config.objective.kwargs in ({}, {"offsets": [[]]})


def test_a_run_of_the_first_format_is_not_evaluated_elsewhere_at_start() -> None:
    config = dataclasses.replace(objective(f"{HERE}:seen"), format=1)
    user_functions.SEEN.clear()
    problem = make_problem(config)
    evaluator = problem.evaluator(make_strategy(config, problem.layout), 1, 0)
    evaluator.canary(problem.initial_parameters(config.seed), 3)
    first, second = (next(iter(np.ravel(x))) for x, _ in user_functions.SEEN)
    assert first == second


def test_without_the_check_nothing_is_evaluated_before_the_first_generation(tmp_path: Path) -> None:
    assert trained(
        objective(f"{HERE}:impure", "objective.check_at_start=false"), tmp_path / "run"
    ).finished


@pytest.mark.parametrize("begun", ["true", "false"])
@pytest.mark.parametrize("resumed", ["true", "false"])
def test_the_check_may_be_turned_on_and_off_on_resume(
    begun: str, resumed: str, tmp_path: Path
) -> None:
    config = objective("sphere", f"objective.check_at_start={begun}")
    reference = trained(config, tmp_path / "reference").state.h_sha256()
    short = objective("sphere", f"objective.check_at_start={begun}", "generations=2")
    trained(short, tmp_path / "run")
    other = objective("sphere", f"objective.check_at_start={resumed}")
    assert trained(other, tmp_path / "run").state.h_sha256() == reference


def test_a_function_that_has_changed_since_is_refused_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(objective("sphere", "generations=2"), tmp_path / "run")
    monkeypatch.setattr(
        "esd.objectives.test_functions.sphere", lambda x: float(np.sum(x**2)) + 1e-9
    )
    with pytest.raises(JobFailedError) as caught:
        trained(objective("sphere"), tmp_path / "run")
    assert "computes other bits" in str(caught.value.__cause__)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_every_number_that_is_kept_for_users_has_their_own_sign(
    direction: str, tmp_path: Path
) -> None:
    """‖x‖² is never negative, whichever way it goes; only the checkpoint and the journal may know better."""
    config = objective(
        f"{HERE}:several",
        f'objective.direction="{direction}"',
        'objective.values=["a", "b"]',
        x={"shape": [4], "initial": 2.0},
    )
    trained(config, tmp_path / "run")
    lines = metrics.read(tmp_path / "run" / "metrics.jsonl")
    for line in lines:
        for key, value in line.items():
            if key.startswith(("return_", "center_return")) and value is not None:
                assert value >= 0.0, key
        if line["return_mean"] is not None:
            assert line["return_min"] <= line["return_mean"] <= line["return_max"]
    centers = [line["center_return"] for line in lines if line["center_return"] is not None]
    best = min(centers) if direction == "minimize" else max(centers)
    done = json.loads((tmp_path / "run" / "DONE.json").read_text())
    assert done["best_center_return"] == best
    first, last = centers[0], centers[-1]
    assert (last < first) == (direction == "minimize")
    folder = RunFolder(tmp_path / "run")
    stored = folder.load_checkpoint(folder.best_file, config).center_return
    assert stored == config.sign * best
    assert folder.best_center_return(config, []) == best
    folder.best_file.unlink()
    assert folder.best_center_return(config, lines) == best


@pytest.mark.parametrize(("direction", "target"), [("minimize", 0.5), ("maximize", 1.5)])
def test_the_target_is_in_the_users_sign(direction: str, target: float, tmp_path: Path) -> None:
    """From ‖x‖² = 1 both are some generations away."""
    config = objective(
        "sphere",
        f'objective.direction="{direction}"',
        f"run.target_return={target}",
        "generations=200",
        "run.center_every=1",
        "es.learning_rate=0.02",
    )
    ending = trained(config, tmp_path / "run")
    assert ending.reason == "target_return"
    assert 2 < ending.state.generation < 200
    lines = metrics.read(tmp_path / "run" / "metrics.jsonl")
    sign = config.sign
    assert [sign * line["center_return"] >= sign * target for line in lines] == [
        *([False] * (len(lines) - 1)),
        True,
    ]


def test_the_worst_of_several_values_is_the_largest_where_they_are_minimized(
    tmp_path: Path,
) -> None:
    config = objective(
        f"{HERE}:several", 'objective.values=["a", "b"]', 'variants.reduce="min"', "es.sigma=1e-6"
    )
    trained(config, tmp_path / "run")
    line = metrics.read(tmp_path / "run" / "metrics.jsonl")[0]
    values = {"a": 4 * 0.5**2, "b": 4 * 0.5**2}
    assert line["center_return"] == max(line["center_return.a"], line["center_return.b"])
    assert line["center_return.a"] == pytest.approx(values["a"])


def test_layout_and_h_0_need_no_function() -> None:
    config = objective("gone_since:drag", y={"shape": [2]}, x={"shape": [3], "initial": 1.0})
    layout, h0 = layout_and_h0(config, None)  # type: ignore[arg-type]  # there is no environment
    assert dict(layout.shapes) == {"x": (3,), "y": (2,)}
    assert h0.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_make_problem_chooses_by_the_function() -> None:
    assert isinstance(make_problem(objective()), ObjectiveProblem)


def test_the_penalty_is_of_h_and_only_for_members() -> None:
    config = objective("sphere", "es.fitness_penalty=2.0", "es.sigma=1e-9")
    records, _ = filled(config, list(range(16)))
    np.testing.assert_allclose(records.fitness("mean") - records.returns[:, 0], -0.5, rtol=1e-6)


def test_the_python_interface_gives_what_the_function_gets_and_no_policy(tmp_path: Path) -> None:
    bounds = {"initial": 0.25, "low": 0.0, "high": 1.0, "bounds": "transform"}
    trained(objective("sphere", x={"shape": [2, 2], **bounds}), tmp_path / "run")
    run = esd.Run(tmp_path / "run")
    assert run.parameters(0)["x"].shape == (2, 2)
    np.testing.assert_allclose(run.parameters(0)["x"], 0.25, atol=1e-6)
    best = run.evaluate()
    x = np.array(best["parameters"]["x"])
    assert best["mean"] == float(np.sum(np.square(x)))
    with pytest.raises(UsageError, match="a run of an objective, which has no policy"):
        run.policy()
    with pytest.raises(UsageError, match="is a run of an objective"):
        run.evaluate(rules="random")
