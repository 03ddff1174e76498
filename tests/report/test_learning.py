"""Learning curves of a report: which curves can be chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from esd.report.learning import learning_curves
from esd.report.runs import Arm, read_arms
from tests.helpers.written_runs import written


def arm_with(folder: Path, *variants: str) -> Arm:
    """A group of one run whose center has a return on each of these variants."""
    (arm,) = read_arms([str(written(folder))], pytest.fail)
    returns = {f"center_return.{name}": 1.0 for name in variants}
    lines = [line | returns for line in arm.runs[0].lines]
    return Arm(arm.name, [dataclasses.replace(arm.runs[0], lines=lines)])


def arm_of_two(folder: Path) -> Arm:
    """A group of two runs of three centers each, half an hour and 1,000 steps apart."""
    (arm,) = read_arms([str(written(folder / f"two-s{seed}")) for seed in (1, 2)], pytest.fail)
    runs = []
    for run, returns in zip(arm.runs, ((1.0, 2.0, 4.0), (3.0, 6.0, 16.0)), strict=True):
        lines = [
            own | {"center_return": value} for own, value in zip(run.lines, returns, strict=True)
        ]
        runs.append(dataclasses.replace(run, lines=lines))
    return Arm("two", runs)


def test_a_group_is_drawn_as_its_runs_their_range_and_their_mean(tmp_path: Path) -> None:
    figure = learning_curves([arm_of_two(tmp_path)])
    assert figure is not None
    over_steps, over_hours = (figure.views[name].data for name in ("0|0", "0|2"))
    first, second, highest, lowest, mean = (trace["y"] for trace in over_steps)
    assert lowest == first == [1.0, 2.0, 4.0]
    assert highest == second == [3.0, 6.0, 16.0]
    assert mean == [2.0, 4.0, 10.0]
    assert {tuple(trace["x"]) for trace in over_steps} == {(0.0, 1000.0, 2000.0)}
    assert {tuple(trace["x"]) for trace in over_hours} == {(0.0, 0.5, 1.0)}


def test_the_words_and_the_table_say_what_a_figure_shows(tmp_path: Path) -> None:
    figure = learning_curves([arm_of_two(tmp_path)])
    assert figure is not None
    assert figure.description.endswith("two, 2 runs: from 2 to 10 after 2,000 environment steps.")
    assert figure.table is not None
    assert figure.table.rows == [
        ["two", 0.0, 2.0, 1.0, 3.0],
        ["two", 1000.0, 4.0, 2.0, 6.0],
        ["two", 2000.0, 10.0, 4.0, 16.0],
    ]


def choices(*arms: Arm) -> list[str]:
    figure = learning_curves(arms)
    assert figure is not None
    return [option for option in figure.choices[0][1] if "," in option]


def test_the_variants_of_every_run_can_be_chosen(tmp_path: Path) -> None:
    first, last = arm_with(tmp_path / "first-s1", "only"), arm_with(tmp_path / "last-s1", "other")
    several = arm_with(tmp_path / "several-s1", "light", "heavy")
    wanted = ["Center's return, light", "Center's return, heavy"]
    for order in ((first, several, last), (several, first, last), (first, last, several)):
        assert choices(*order) == wanted
    assert choices(first, last) == []  # each has one variant: that is the center's return


def test_tags_in_the_name_of_a_variant_are_shown(tmp_path: Path) -> None:
    figure = learning_curves([arm_with(tmp_path / "tags-s1", "<b>x</b>", "y")])
    assert figure is not None
    number = list(figure.choices[0][1]).index("Center's return, <b>x</b>")
    title = figure.views[f"{number}|0"].layout["yaxis"]["title"]["text"]
    assert title == "Center's return, &lt;b&gt;x&lt;/b&gt;"
