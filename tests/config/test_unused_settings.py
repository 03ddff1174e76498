"""What is named and does nothing is told; nothing else is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import esd.config
from esd.config.experiment_files import experiment_names, read_experiment, read_own
from esd.config.settings import Config
from esd.config.tables import flatten, parse, to_table
from esd.config.unused_settings import without_effect

EXPERIMENTS = Path(esd.config.__file__).parent / "experiments"
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
        (
            {"es": {"sigma_min": 0.01, "learning_rate_decay": 0.9, "learning_rate_min": 0.1}},
            "es.sigma_min: no effect with es.sigma_decay = 1",
        ),
        (
            {"es": {"sigma_min": 0.01, "sigma_decay": 0.9, "learning_rate_min": 0.1}},
            "es.learning_rate_min: no effect with es.learning_rate_decay = 1",
        ),
        (
            {"es": {"algorithm": "pgpe", "learning_rate_min": 0.1}},
            "es.learning_rate_min: no effect with es.learning_rate_decay = 1",
        ),
        (
            {"policy": {"freeze_after": 4, "every": 5}},
            "policy.freeze_after: no effect other than that the network never learns, since its first update follows "
            "step 5 (policy.every)",
        ),
        *(
            (
                {"policy": {"draw_weights": "run", "initial_weights": scheme}},
                f"policy.draw_weights: no effect with policy.initial_weights = '{scheme}', which are not drawn",
            )
            for scheme in ("ones", "zeros", "coevolved")
        ),
        (
            {
                "policy": {
                    **{"kind": "reformer", "attention": "full", "hash_seed": 3, "capacity": 9},
                    **{"buckets": 2, "hashes": 1, "cap": 5},
                }
            },
            "policy.hashes, policy.buckets, policy.cap, policy.hash_seed: no effect with policy.attention = 'full'",
        ),
        (
            {"policy": {"kind": "reformer", "gate_bias": 1.0}},
            "policy.gate_bias: no effect with policy.gate = false",
        ),
        *(
            (
                {"policy": {"kind": kind, "head_rate": 0.5}},
                "policy.head_rate: no effect with policy.head = 'linear'",
            )
            for kind in ("reformer", "gru")
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
        {"es": {"sigma_min": 0.01, "sigma_decay": 0.9}},
        {"es": {"algorithm": "pgpe", "learning_rate_min": 0.1, "learning_rate_decay": 0.9}},
        {"policy": {"freeze_after": 5, "every": 5}},
        {"policy": {"freeze_after": 0, "every": 5}},
        {"policy": {"draw_weights": "run", "initial_weights": "sparse"}},
        {"policy": {"kind": "reformer", "hashes": 1, "gate": True, "gate_bias": 1.0}},
        {"policy": {"kind": "gru", "head": "ABCD_lr", "head_rate": 0.5}},
        # a file may list all settings of its kind
        to_table(parse({"policy": {"kind": "reformer", "attention": "full"}}, "test")),
        {"policy": {"kind": "mine:Policy", "gate_bias": 1.0}},
    ],
)
def test_what_is_used_or_not_named_is_not_told(table: dict[str, Any]) -> None:
    assert told(table) == []


@pytest.mark.parametrize("name", experiment_names())
def test_no_shipped_experiment_sets_what_does_nothing(name: str) -> None:
    own = tomllib.loads((EXPERIMENTS / f"{name}.toml").read_text("utf-8"))
    own.pop("extends", None)  # what it extends may set what does nothing here
    assert not list(without_effect(flatten(own), parse(read_experiment(name)[1], name)))


def test_of_a_file_that_extends_others_only_what_its_user_wrote_is_looked_at(
    tmp_path: Path,
) -> None:
    """A shipped twin may inherit what does nothing in it; nobody who extends it has set that."""
    (tmp_path / "base.toml").write_text('extends = "t-maze-full"\n[policy]\nhash_seed = 3\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\n[es]\nsigma = 0.2\n')
    assert read_own("t-maze-full") == {}
    own = read_own(str(tmp_path / "mine.toml"))
    assert own == {"policy": {"hash_seed": 3}, "es": {"sigma": 0.2}}
    config = parse(read_experiment(str(tmp_path / "mine.toml"))[1], "mine")
    assert list(without_effect(flatten(own), config)) == [
        "policy.hash_seed: no effect with policy.attention = 'full'"
    ]
