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
