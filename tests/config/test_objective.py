"""Settings of an objective: what is wrong with them is named, and what a run keeps of them."""

from __future__ import annotations

from typing import Any

import pytest

from esd.config.identity import identity
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse, to_table
from esd.errors import UsageError
from tests.helpers.configs import objective


def table(**parameter: Any) -> dict[str, Any]:
    return {
        "objective": {
            "function": "sphere",
            "direction": "minimize",
            "parameters": {"x": parameter},
        }
    }


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        ({"shape": [0]}, "shape = [0]: expected lengths of 1 or more"),
        ({"shape": 3}, "shape = 3: expected a list"),
        (
            {"initial": "random"},
            "initial = 'random': expected a number from −1e30 to 1e30, or \"uniform\"",
        ),
        (
            {"shape": [2], "initial": [1.0]},
            'initial = [1.0]: expected a number from −1e30 to 1e30, or nested lists of shape [2], or "uniform"',
        ),
        (
            {"shape": [2], "initial": [1, [2]]},
            "initial = [1.0, [2.0]]: expected a number from −1e30 to 1e30, or nested lists of shape [2]",
        ),
        ({"initial": True}, "initial = True: expected a number"),
        ({"initial": 1e31}, "initial = 1e+31: expected a number from −1e30 to 1e30"),
        (
            {"initial": 10**400},
            "initial = a whole number of 401 digits: expected a whole number of",
        ),
        ({"low": "a"}, "low = 'a': expected a number from −1e30 to 1e30"),
        ({"initial": "uniform", "low": 0.0}, "initial = 'uniform': needs both low and high"),
        ({"bounds": "transform", "high": 1.0}, "bounds = 'transform': needs both low and high"),
        ({"bounds": "wrap"}, "bounds = 'wrap': expected one of clip, reflect, transform"),
        ({"low": 1, "high": 1, "initial": 1}, "low = 1, high = 1: expected low below high"),
        ({"low": 1.0}, "initial = 0: expected 1 (low) or more"),
        (
            {"low": 0.0, "high": 1.0, "bounds": "transform"},
            "initial = 0: expected more than 0 (low) and less than 1 (high), with bounds = 'transform'",
        ),
        ({"high": -1, "initial": 2}, "initial = 2: expected -1 (high) or less"),
        ({"low": 0, "high": 1, "initial": 2}, "initial = 2: expected 0 (low) to 1 (high)"),
        ({"lo": 1.0}, "lo: unknown key, did you mean 'low'?"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_named(parameter: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(table(**parameter), "mine.toml")
    assert f"objective.parameters.x.{problem}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"direction": ""},
            'objective.direction is missing; expected "minimize" or "maximize"',
        ),
        (
            {"direction": "min"},
            "objective.direction = 'min': expected minimize or maximize",
        ),
        (
            {"parameters": {}},
            "objective.parameters is missing; describe each parameter in a table [objective.parameters.NAME] with "
            "shape and initial",
        ),
        (
            {"function": ""},
            'objective.function is missing; expected "module:name" or one of esd list objectives',
        ),
        (
            {"values": ["a", "a"]},
            "objective.values = ['a', 'a']: expected names that all differ, without control characters",
        ),
        (
            {"values": ["a", "\33[2J"]},
            r"objective.values = ['a', '\x1b[2J']: expected names that all differ, without control characters",
        ),
        (
            {"parameters": {"a.b": {}}},
            "objective.parameters.'a.b': expected a name of letters, digits, _ and - that does not begin with a digit",
        ),
        ({"parameters": {"a": 3}}, "objective.parameters.a = 3: expected a table"),
    ],
)
def test_what_is_wrong_with_an_objective_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse({"objective": {**table()["objective"], **changes}}, "mine.toml")
    assert str(caught.value) == f"mine.toml: {message}"


def test_settings_of_policies_are_refused_beside_an_objective() -> None:
    with pytest.raises(UsageError) as caught:
        parse({**table(), "env": {"id": "CartPole-v1"}, "device": "cpu"}, "mine.toml")
    assert str(caught.value) == (
        "mine.toml: env, device: not supported with an objective, which has no policy or environment; "
        "remove these settings"
    )


def test_a_run_keeps_what_it_is_and_nothing_else() -> None:
    config = objective("sphere")
    written = to_table(config)
    assert not {"env", "policy", "device", "batch_members"} & {*written}
    assert parse(written, "again") == config
    assert "objective" not in to_table(Config())


def test_the_identity_knows_what_h_depends_on() -> None:
    config = objective("sphere")
    for same in ("objective.max_seconds=3.0", "objective.check_at_start=false", "generations=9"):
        assert identity(objective("sphere", same)) == identity(config), same
    for other in (
        'objective.direction="maximize"',
        "objective.parameters.x.initial=0.25",
        "objective.parameters.x.high=3.0",
        "objective.evaluations_per_member=2",
        "objective.kwargs={a=1}",
    ):
        assert identity(objective("sphere", other)) != identity(config), other
    whole = apply_settings(to_table(config), ["objective.parameters.x.initial=1"])
    real = apply_settings(to_table(config), ["objective.parameters.x.initial=1.0"])
    assert identity(parse(whole, "1")) == identity(parse(real, "1.0"))
