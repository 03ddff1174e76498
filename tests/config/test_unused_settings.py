"""What is named and does nothing is told; nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.settings import Config
from esd.config.tables import flatten, parse, to_table
from esd.config.unused_settings import without_effect

TWO = [{"name": "a"}, {"name": "b"}]


def told(table: dict[str, Any]) -> list[str]:
    return list(without_effect(flatten(table), parse(table, "test")))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            {"es": {"momentum": 0.5, "optimizer": "adam"}},
            "es.momentum: no effect with es.optimizer = 'adam'",
        ),
        (
            {"es": {"beta1": 0.5, "epsilon": 0.1}},
            "es.beta1, es.epsilon: no effect with es.optimizer = 'sgd'",
        ),
        (
            {"es": {"max_speed": 1.0, "optimizer": "momentum"}},
            "es.max_speed: no effect with es.optimizer = 'momentum'",
        ),
        (
            {
                "variants": {"reduce": "min"},
                "env": {"variants": [TWO[0], {**TWO[1], "unseen": True}]},
            },
            "variants.reduce: no effect with fewer than two [[env.variants]] that are not unseen",
        ),
        (
            {"policy": {"average": True}},
            "policy.average: no effect with policy.every = 1",
        ),
        (
            {"run": {"target_return": 3.0, "center_every": 0}},
            "run.target_return: no effect with run.center_every = 0",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_told_with_the_reason(
    table: dict[str, Any], line: str
) -> None:
    assert told(table) == [line]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"policy": {"average": True, "every": 2}},
        {"es": {"momentum": 0.5, "max_speed": 1.0, "optimizer": "clipup"}},
        {"es": {"momentum": 0.5, "optimizer": "momentum"}},
        {"es": {"beta1": 0.5, "beta2": 0.5, "epsilon": 0.1, "optimizer": "adam"}},
        {"variants": {"reduce": "min"}, "env": {"variants": TWO}},
        to_table(Config()),
        {"variants": {"reduce": "mean_of_ranks"}},  # ranks of one body are not its returns
        {"run": {"target_return": 3.0, "center_episodes": 2}},
    ],
)
def test_what_is_used_or_not_named_is_not_told(table: dict[str, Any]) -> None:
    assert told(table) == []


@pytest.mark.parametrize("name", experiment_names())
def test_no_shipped_experiment_sets_what_does_nothing(name: str) -> None:
    assert told(read_experiment(name)[1]) == []
