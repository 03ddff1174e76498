"""Evaluations in a report: what it says about runs that failed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esd.report import evaluations
from esd.report.runs import read_arms
from tests.helpers.written_runs import evaluation, written


def rows_of(text: str) -> list[list[str]]:
    """The cells of the table."""
    body = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)[-1]
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]


def page_of(folder: Path) -> str:
    return evaluations.section(read_arms([str(folder)], pytest.fail))


def test_a_run_whose_evaluation_failed_was_evaluated(tmp_path: Path) -> None:
    text = page_of(written(tmp_path / "r-s1", evaluation({"a": None})))
    assert "No run has been evaluated yet" not in text
    assert rows_of(text) == [["a", "seen", "r-s1", "0 (1 of 1 failed)", "–", "–", "–", "–"]]
    assert evaluations.FAILED in text


def test_a_mean_says_how_many_runs_failed(tmp_path: Path) -> None:
    for seed, mean in enumerate([1.0, None, 3.0]):
        written(tmp_path / f"r-s{seed}", evaluation({"a": mean, "b": 5.0, "u": None}))
    text = page_of(tmp_path)
    a, b, u = rows_of(text)
    assert a[2:5] == ["r", "2 (1 of 3 failed)", "2.000"]
    assert b[2:5] == ["r", "3", "5.000"]
    assert u[2:] == ["r", "0 (3 of 3 failed)", "–", "–", "–", "–"]
    assert text.count("<figure") == 1


def test_where_none_failed_nothing_is_said_about_it(tmp_path: Path) -> None:
    text = page_of(written(tmp_path / "r-s1", evaluation({"a": 1.0})))
    assert rows_of(text)[0][3] == "1"
    assert "failed" not in text
