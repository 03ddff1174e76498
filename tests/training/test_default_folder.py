"""Where a run lies that no folder is named for: readable, bounded, and another one for every point of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.config.experiment_files import read_experiment
from esd.config.tables import apply_settings, parse
from esd.training.default_folder import default_folder, described
from esd.training.plan import TrainRequest, make_plan
from tests.helpers.configs import SMALL
from tests.helpers.training import trained

TINY = (*SMALL, "env.max_steps=60")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder(*settings: str, experiment: str = "cartpole") -> str:
    name, table = read_experiment(experiment)
    config = parse(apply_settings(table, settings), name)
    return str(default_folder(name, parse(table, name), config, settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), "runs/cartpole-s0"),
        (("seed=7",), "runs/cartpole-s7"),
        (("seed=7", "generations=3", "run.center_every=2"), "runs/cartpole-s7"),
        (("es.sigma=0.05",), "runs/cartpole-es.sigma=0.05-s0"),
        (("es.sigma=0.2",), "runs/cartpole-s0"),  # as in the experiment
        (
            ("seed=1", "population=64", "es.sigma=0.1"),
            "runs/cartpole-es.sigma=0.1-population=64-s1",
        ),
        (("population=64", "es.sigma=0.1"), "runs/cartpole-es.sigma=0.1-population=64-s0"),
        (("policy.hidden=[8, 4]",), "runs/cartpole-policy.hidden=8_4-s0"),
        (("es.optimizer=adam",), "runs/cartpole-es.optimizer=adam-s0"),
        (("es.algorithm=snes",), "runs/cartpole-es.algorithm=snes-s0"),
        (("env.normalize_observations=true",), "runs/cartpole-env.normalize_observations=true-s0"),
    ],
)
def test_the_name_has_what_set_changes_and_h_depends_on(
    settings: tuple[str, ...], expected: str
) -> None:
    assert folder(*settings) == expected


def test_long_and_odd_values_are_shortened_with_a_hash_and_stay_distinct() -> None:
    odd = [
        'env.id="my module:Mine/Odd-v0"',
        'env.id="my module:Mine_Odd-v0"',
        f'env.id="{"x" * 300}"',
        f'env.id="{"x" * 301}"',
        'env.id="../../etc"',
        'env.kwargs={a = 1, b = "/"}',
        'env.kwargs={a = 1, b = ":"}',
        'env.variants=[{name = "a"}, {name = "b", kwargs = {g = 1}}]',
        'env.variants=[{name = "a"}, {name = "b", kwargs = {g = 2}}]',
    ]
    found = [folder(setting) for setting in odd]
    assert len({*found}) == len(odd)
    for path in found:
        parent, _, name = path.rpartition("/")
        assert parent == "runs"
        assert len(name.encode()) < 200
        assert not {*name} & {*" :/,;'\"()[]{}*?$&"}
        assert name.startswith("cartpole-env.")
        assert name.endswith("-s0")


def test_a_name_does_not_depend_on_the_order_of_the_settings() -> None:
    assert described({"a": 1, "b": [1, "x"]}) == described({"a": 1, "b": [1, "x"]})
    first = folder("es.sigma=0.1", "population=64")
    assert first == folder("population=64", "es.sigma=0.1")


def test_the_same_command_finds_its_run_again_and_another_point_of_the_sweep_its_own() -> None:
    def plan_of(sigma: float) -> Path:
        settings = (*TINY, f"es.sigma={sigma}")
        plan = make_plan(TrainRequest(settings=settings), lambda text: None)
        trained(plan.config, plan.folder)
        return plan.folder

    first, second = plan_of(0.05), plan_of(0.1)
    assert first != second
    again = make_plan(TrainRequest(settings=(*TINY, "es.sigma=0.05")), lambda text: None)
    assert (again.folder, again.resumes) == (first, True)


def test_a_run_that_an_older_esd_put_under_the_plain_name_is_found_there() -> None:
    settings = (*TINY, "es.sigma=0.05")
    asked = make_plan(TrainRequest(settings=settings), lambda text: None)
    trained(asked.config, Path("runs/cartpole-s0"))
    again = make_plan(TrainRequest(settings=settings), lambda text: None)
    assert (again.folder, again.resumes) == (Path("runs/cartpole-s0"), True)
    other = make_plan(TrainRequest(settings=(*TINY, "es.sigma=0.1")), lambda text: None)
    assert (other.resumes, str(other.folder).startswith("runs/cartpole-env.")) == (False, True)


def test_an_experiment_that_needs_its_settings_has_a_name_too(tmp_path: Path) -> None:
    Path("half.toml").write_text('[objective]\nfunction = "sphere"\ndirection = "minimize"\n')
    request = TrainRequest("half.toml", settings=("objective.parameters.x.initial=0.5",))
    assert make_plan(request, lambda text: None).folder == Path(
        "runs/half-objective.parameters.x.initial=0.5-s0"
    )
