"""The part of a report about h: which checkpoint it shows, and what it says about learning rules."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.tables import parse
from esd.report import parameters
from esd.report.runs import Arm, read_arms
from tests.helpers.training import trained

EPISODES = {"env": {"id": "CartPole-v1", "max_steps": 20}, "policy": {"hidden": [3]}}
OBJECTIVE = {
    "objective": {
        "function": "sphere",
        "direction": "minimize",
        "parameters": {"x": {"shape": [2], "initial": 1.0}},
    }
}
BEST, NEWEST = {"center_every": 1}, {"center_every": 0}


def run_of(folder: Path, run: dict[str, Any], problem: dict[str, Any], **table: Any) -> Path:
    """A trained run of three generations."""
    sizes = {"population": 4, "generations": 3, "seed": int(folder.name[-1])}
    trained(parse({**sizes, "run": run, **problem, **table}, "test"), folder)
    return folder


def page_of(*runs: Path) -> str:
    return parameters.section(read_arms(list(map(str, runs)), pytest.fail))


def test_the_page_says_of_which_checkpoint_the_parameters_are(tmp_path: Path) -> None:
    newest = page_of(run_of(tmp_path / "n-s1", NEWEST, EPISODES))
    assert "at the start and in the newest checkpoint, generation 3." in newest
    assert "<p>Evolved: the newest checkpoint, generation 3. Share" in newest
    assert "after training" not in newest
    best = run_of(tmp_path / "b-s1", BEST, EPISODES)
    (arm,) = read_arms([str(best)], pytest.fail)
    assert arm.runs[0].parameters is not None
    generation = arm.runs[0].parameters.generation
    assert generation == arm.runs[0].folder.generation_of_best()
    assert f"<p>Evolved: the best checkpoint, generation {generation}. Share" in page_of(best)


def test_the_checkpoints_of_several_groups_are_named_below_each_figure(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"n-s{seed}", NEWEST, EPISODES) for seed in (1, 2)]
    text = page_of(*runs, run_of(tmp_path / "b-s1", BEST, EPISODES))
    assert "at the start and in the checkpoint that is named below each figure." in text
    assert "<p>Evolved: the newest checkpoint of 2 runs, generation 3. Share" in text
    assert "<p>Evolved: the best checkpoint, generation " in text


def test_parameters_of_an_objective_are_of_the_best_center_only_if_there_is_one(
    tmp_path: Path,
) -> None:
    newest = page_of(run_of(tmp_path / "n-s1", NEWEST, OBJECTIVE))
    assert "Parameters of the newest checkpoint, generation 3, n-s1<" in newest
    assert "best" not in newest
    best = page_of(run_of(tmp_path / "b-s1", BEST, OBJECTIVE))
    assert "Parameters of the best checkpoint, generation " in best


def test_the_parameters_of_an_objective_are_those_of_its_checkpoint(tmp_path: Path) -> None:
    (arm,) = read_arms([str(run_of(tmp_path / "n-s1", NEWEST, OBJECTIVE))], pytest.fail)
    known = arm.runs[0].parameters
    assert known is not None
    known = dataclasses.replace(known, h=np.array([0.25, -4.5], np.float32))
    page = parameters.section([Arm("n", [dataclasses.replace(arm.runs[0], parameters=known)])])
    assert re.findall(r'scope="row">(.*?)</th>.*<td class="n">(.*?)</td>', page) == [
        ("x[0]", "0.250"),
        ("x[1]", "−4.500"),
    ]


def test_the_table_of_an_array_has_its_spread_and_quantiles(tmp_path: Path) -> None:
    values = np.arange(101, dtype=np.float32)
    own = parameters.Distribution("layer0", "A", values, 2 * values)
    ((*_, count, mean, std, std_at_start, low, median, high),) = parameters._table(
        Arm("n"), [own]
    ).rows
    assert (count, mean, low, median, high) == (101, 50.0, 5.0, 50.0, 95.0)
    assert std == np.std(values, dtype=np.float64)
    assert std_at_start == 2 * std


def test_rules_that_synapses_share_are_not_called_their_own(tmp_path: Path) -> None:
    shared = {**EPISODES, "policy": {"hidden": [3], "rules": 3}}
    fixed = {**EPISODES, "policy": {"kind": "static", "hidden": [3]}}
    own_run = run_of(tmp_path / "own-s1", NEWEST, EPISODES)
    shared_run = run_of(tmp_path / "shared-s1", NEWEST, shared)
    own, of_three = page_of(own_run), page_of(shared_run)
    assert "Every synapse of a Hebbian network has its own rule Δw = " in own
    assert "The synapses of a Hebbian network share rules (policy.rules = 3) Δw = " in of_three
    assert "its own rule" not in of_three
    both = page_of(own_run, shared_run)
    assert "have rules of their own or share rules (policy.rules = 3) Δw = " in both
    assert "Hebbian" not in page_of(run_of(tmp_path / "fixed-s1", NEWEST, fixed))
