"""What esd show --episode finds inside a network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.commands.show import _print_state
from esd.errors import UntrustedError, UsageError
from esd.evaluation.inside import Inside, look_inside, saturated_share, weight_growth
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from tests.helpers.configs import objective, small
from tests.helpers.training import trained
from tests.helpers.written_runs import written


def steps(*layers: float) -> dict[str, Any]:
    """Two steps of layers whose units all have one activity."""
    return {f"activities.{i}": np.full((2, 3), value, np.float32) for i, value in enumerate(layers)}


def test_hidden_units_near_one_are_saturated_and_inputs_and_outputs_do_not_count() -> None:
    assert saturated_share(steps(50.0, 0.995, -1.0, 0.2)) == 1.0
    assert saturated_share(steps(1.0, 0.5, 0.9, 1.0)) == 0.0
    mixed = steps(0.0, 1.0, 0.0)
    mixed["activities.1"][0, :] = 0.1
    assert saturated_share(mixed) == 0.5
    assert saturated_share(steps(0.0, 1.0)) == 1.0  # without hidden units the outputs
    assert saturated_share(steps(0.0, 7.0, 7.0)) is None  # not bounded
    assert saturated_share({}) is None


def test_the_growth_is_that_of_the_layer_that_grew_most_and_fixed_weights_have_none() -> None:
    grown = np.stack([np.full((2, 2), value, np.float32) for value in (0.5, 1.0, 3.0)])
    assert weight_growth({"weights.0": grown, "weights.1": grown[::-1]}) == 6.0
    assert weight_growth({"weights.0": np.ones((3, 2, 2), np.float32)}) is None
    grown[-1, 0, 0] = math.inf
    assert weight_growth({"weights.0": grown}) == math.inf


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (Inside(9, 1.0, 0.5, 3.0), []),
        (Inside(9, 1.0, None, None), []),
        (Inside(9, 1.0, 0.95, 3.0), ["saturated: 95% of the activities"]),
        (Inside(9, 1.0, 0.1, 250.0), ["growing_weights: The network's weights grew 250-fold"]),
        (Inside(9, 1.0, 0.1, math.inf), ["growing_weights: The network's weights became infinite"]),
    ],
)
def test_each_symptom_has_a_sentence_and_a_healthy_network_has_none(
    inside: Inside, expected: list[str]
) -> None:
    found = [f"{finding.name}: {finding.text}" for finding in inside.findings()]
    assert len(found) == len(expected)
    assert all(text.startswith(begins) for text, begins in zip(found, expected, strict=True))


def test_show_plays_an_episode_and_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(small("cartpole", "generations=1", "env.max_steps=12"), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    inside = look_inside(folder)
    assert 5 < inside.steps <= 12
    assert inside.episode_return == inside.steps
    assert inside.saturated_share is not None
    assert inside.weight_growth is not None  # a Hebbian network
    _print_state(folder, None, True, episode=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["episode_steps"] == inside.steps
    assert shown["episode_saturated_share"] == inside.saturated_share
    assert [*shown][-2:] == ["findings", "config"]


def test_an_objective_has_no_episode_and_foreign_code_is_not_imported(tmp_path: Path) -> None:
    trained(objective("sphere", "generations=1"), tmp_path / "run")
    with pytest.raises(UsageError, match="is the run of an objective, which has no episodes"):
        look_inside(RunFolder(tmp_path / "run"))
    es = {"algorithm": "no_such_module_anywhere:KIND"}
    foreign = written(tmp_path / "foreign-s0", importing=False, es=es)
    with pytest.raises(UntrustedError):
        look_inside(RunFolder(foreign, Trust.ASK))
