"""What went wrong in a training, from the lines of its metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.api.run import Run
from esd.commands.show import _describe
from esd.run import metrics
from esd.run.folder import RunFolder
from esd.run.metrics import _tied_share
from esd.training.diagnosis import Course, diagnose
from tests.helpers.configs import objective, small
from tests.helpers.training import trained

CONFIG = small("cartpole", "generations=4", "population=10", "run.center_every=1")
WELL = {
    "return_mean": 20.0,
    "return_min": 8.0,
    "return_max": 50.0,
    "center_return": 21.0,
    "failed_members": 0,
    "tied_share": 0.3,
    "sigma": 0.1,
    "sigma_min": 0.1,
    "sigma_max": 0.1,
    "learning_rate": 0.2,
    "h_norm": 30.0,
    "update_norm": 0.5,
}
CENTER_ALONE = {**WELL, "return_mean": None, "return_min": None, "return_max": None}
CENTER_ALONE |= {"update_norm": 0.0, "tied_share": 0.0, "center_return": 30.0}


def lines(*changes: dict[str, Any], last: dict[str, Any] | None = None) -> list[metrics.Line]:
    """Four generations with the changes by turns, and the last center."""
    changes = changes or ({},)
    generations = [{**WELL, **changes[t % len(changes)], "generation": t} for t in range(4)]
    return [*generations, {**CENTER_ALONE, **(last or {}), "generation": 4}]


def names(found: list[metrics.Line], h_size: int | None = 900) -> list[str]:
    return [finding.name for finding in diagnose(Course.of_lines(found, CONFIG, h_size))]


def test_of_a_training_that_went_well_nothing_is_said() -> None:
    assert names(lines()) == []


def test_of_a_training_without_a_generation_nothing_is_said() -> None:
    assert names([]) == []
    assert names(lines()[-1:]) == []


@pytest.mark.parametrize(
    ("changes", "last", "expected"),
    [
        # a constant reward explains that all are tied and that h never changed
        ([{"return_min": 5.0, "return_max": 5.0, "update_norm": 0.0}], {}, ["constant_return"]),
        # solved at last: constant in some generations only
        ([{}, {"return_min": 500.0, "return_max": 500.0, "update_norm": 0.0}], {}, []),
        ([{"update_norm": 0.0}], {}, ["no_update"]),
        ([{"tied_share": 0.9}], {}, ["tied_returns"]),
        ([{"tied_share": 0.9}, {}], {}, ["tied_returns"]),
        ([{"tied_share": 0.9}, {}, {}, {}], {}, []),
        ([{"failed_members": 2}], {}, ["many_failed"]),
        ([{"failed_members": 1}, {}], {}, []),
        ([{}], {"center_return": None}, ["center_failed"]),
        ([{"h_norm": None}], {}, ["diverged"]),
        ([{"h_norm": 1e20}], {}, ["diverged"]),
        # σ = 1e-9 beside coordinates of 30 / √900 = 1, where float32 steps are 6e-8 and 1.2e-7
        ([{"sigma": 1e-9, "sigma_max": 1e-9, "update_norm": 0.0}], {}, ["no_perturbation"]),
        # the same relation, but it is the updates that made h so large
        ([{"h_norm": 1e10, "update_norm": 5e9}], {}, ["diverged"]),
        (
            [{"return_mean": None, "return_min": None, "return_max": None, "failed_members": 10}],
            {"center_return": None},
            ["all_failed"],
        ),
    ],
)
def test_each_symptom_is_found_and_what_it_explains_is_not_told_beside_it(
    changes: list[dict[str, Any]], last: dict[str, Any], expected: list[str]
) -> None:
    assert names(lines(*changes, last=last)) == expected


def test_lines_of_older_runs_and_lines_of_other_kinds_are_no_failure() -> None:
    old = [{k: v for k, v in line.items() if k != "tied_share"} for line in lines()]
    assert names([{"generation": "x"}, {"no": 1}, {"generation": 1, "h_norm": "x"}, *old]) == []


def test_lines_that_were_rebuilt_from_the_journal_are_no_divergence() -> None:
    """They have no norms, which elsewhere means that those are not finite."""
    lost = dict.fromkeys(["ranks", "h_norm", "update_norm", "sigma", "sigma_max", "tied_share"])
    assert names(lines(lost)) == []
    constant = {**lost, "return_min": 5.0, "return_max": 5.0}
    assert names(lines(constant)) == ["constant_return"]


def test_the_smallest_sigma_that_is_not_lost_is_half_a_step_of_float32() -> None:
    one = np.float32(1.0)
    assert one + np.float32(2.0**-24 * 0.99) == one
    assert names(lines({"sigma_max": 2.0**-24 * 0.99, "update_norm": 1e-3})) == ["no_perturbation"]
    assert names(lines({"sigma_max": 2.0**-24 * 1.01, "update_norm": 1e-3})) == []


def test_the_tied_share_is_that_of_the_largest_group_below_the_best() -> None:
    assert _tied_share(np.array([1.0, 1.0, 1.0, 2.0]), 4) == 0.75
    assert _tied_share(np.array([1.0, 2.0, 2.0, 2.0]), 4) == 0.25  # most are the best
    assert _tied_share(np.array([3.0, 3.0, 3.0, 3.0]), 4) == 0.0
    assert _tied_share(np.array([]), 4) == 0.0


def test_a_constant_objective_says_so_in_show_in_done_json_and_from_python(tmp_path: Path) -> None:
    config = objective("tests.helpers.user_functions:constant", x={"shape": [3], "initial": 0.5})
    ending = trained(config, tmp_path)
    assert ending.finished
    (finding,) = ending.findings
    assert finding.name == "constant_return"
    assert "the same return (3) in every generation" in finding.text
    folder = RunFolder(tmp_path)
    done = folder.done()
    assert done is not None
    shown = _describe(folder, None)["findings"]
    assert shown == done["findings"] == Run(tmp_path).findings() == [finding.as_json()]


def test_a_learning_rate_too_small_for_float32_says_so(tmp_path: Path) -> None:
    ending = trained(objective("sphere", "es.learning_rate=1e-30"), tmp_path)
    assert [finding.name for finding in ending.findings] == ["no_update"]
    assert "now 1e-30" in ending.findings[0].text


def test_a_learning_rate_that_throws_h_far_away_says_so(tmp_path: Path) -> None:
    ending = trained(objective("sphere", "es.learning_rate=1e10"), tmp_path)
    assert [finding.name for finding in ending.findings] == ["diverged"]


def test_a_run_that_learns_says_nothing(tmp_path: Path) -> None:
    ending = trained(objective("sphere", "es.learning_rate=0.01"), tmp_path)
    assert ending.findings == ()


def test_ties_are_counted_from_the_records(tmp_path: Path) -> None:
    config = objective("tests.helpers.user_functions:needle", x={"shape": [3], "initial": 0.5})
    config = dataclasses.replace(
        config, objective=dataclasses.replace(config.objective, direction="maximize")
    )
    trained(config, tmp_path)
    line = metrics.read(RunFolder(tmp_path).metrics_file)[0]
    zeros = round(14 * (1.0 - line["return_mean"]))
    assert 0 < zeros < 14
    assert line["tied_share"] == zeros / 14


def test_updates_of_length_zero_are_blamed_on_ties_unless_steps_are_lost() -> None:
    (ties,) = diagnose(Course.of_lines(lines({"update_norm": 0.0, "sigma_max": 1e30}), CONFIG, 900))
    assert "Most likely the two members of each mirrored pair had the same return" in ties.text
    assert "es.sigma (now 1e+30) is not too large" in ties.text
    (lost,) = diagnose(
        Course.of_lines(lines({"update_norm": 0.0, "learning_rate": 1e-9}), CONFIG, 900)
    )
    assert (
        "such small steps are lost in float32 rounding, so increase es.learning_rate (now 1e-09)"
        in lost.text
    )
