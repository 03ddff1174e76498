"""Groups of runs: which runs a word names, and what is no group. The runs are written, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esd.errors import UsageError
from esd.evaluation.groups import read_groups
from tests.helpers.written_runs import evaluation, group, written


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    return (
        group(tmp_path, "plastic", [10.0, 11.0, 12.0, 13.0, 14.0]),
        group(tmp_path, "static", [1.0, 2.0], policy={"kind": "static", "hidden": [6]}),
    )


def refused(match: str, *words: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        read_groups(words)
    assert "\n" not in str(error.value)


def test_what_is_no_comparison_is_refused(tmp_path: Path, two: tuple[str, str]) -> None:
    plastic, static = two
    refused("one group", plastic)
    refused("expected NAME=PATTERN", plastic, "static")
    refused("2 groups are called 'plastic'", plastic, plastic)
    refused(r"plastic-s1: is in two groups.*-s\[0-9\]\*", plastic, f"b={tmp_path}/plastic-s1")
    refused("plastic-s1: is twice in b", static, f"b={tmp_path}/plastic-s1,{tmp_path}/plastic-s1")
    refused("b: one run .*at least two", static, f"b={tmp_path}/plastic-s1")
    refused("nowhere: does not exist", plastic, f"b={tmp_path}/nowhere")
    refused("is not the folder of a run", plastic, f"b={tmp_path}")


def test_a_folder_with_brackets_in_its_name_is_a_run(tmp_path: Path, two: tuple[str, str]) -> None:
    for seed in (0, 1):
        (tmp_path / f"static-s{seed}").rename(tmp_path / f"static[{seed}]")
    found = read_groups([two[0], f"static={tmp_path}/static[0],{tmp_path}/static[1]"])
    assert [run.seed for run in found[1].runs] == [0, 1]


def test_a_comma_in_the_name_of_a_run_does_not_end_it(tmp_path: Path, two: tuple[str, str]) -> None:
    for seed in (0, 1):
        (tmp_path / f"static-s{seed}").rename(tmp_path / f"static,{seed},x")
    for word in (f"{tmp_path}/static,*", f"{tmp_path}/static,0,x,{tmp_path}/static,1,x"):
        found = read_groups([two[0], f"static={word}"])
        assert [run.seed for run in found[1].runs] == [0, 1]
    with pytest.raises(UsageError, match=r"static,1: does not exist|static: does not exist"):
        read_groups([two[0], f"static={tmp_path}/static,0,x,{tmp_path}/static,1"])


def test_a_pattern_passes_over_what_is_no_run_but_not_over_another_arm(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    (tmp_path / "plastic-s9").mkdir()
    assert len(read_groups(two)[0].runs) == 5
    refused(
        r"all: policy.* in .*plastic-s0 but .* in .*static-s0; the runs of a group may differ only in their seed",
        f"all={tmp_path}/*-s*",
        two[1],
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"population": 6}, "population is 128 in .* but 6 in"),
        ({"generations": 3}, "generations is 100"),
        ({"es": {"sigma": 0.3}}, "es.sigma is 0.1"),
        ({"run": {"center_episodes": 3}}, "run.center_episodes"),
        ({"seed": 0}, "have the same seed"),
    ],
)
def test_a_group_is_one_way_to_train_with_as_many_seeds_as_runs(
    table: dict[str, Any], words: str, tmp_path: Path, two: tuple[str, str]
) -> None:
    written(tmp_path / "plastic-s8", evaluation({"a": 1.0, "u1": 1.0}), **table)
    refused(words, *two)


def test_what_changes_no_result_may_differ_within_a_group(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    unseen = {"name": "u1", "kwargs": {"b": 1}, "unseen": True}
    env = {"variants": [{"name": "a"}, unseen]}
    table = {"run": {"checkpoint_every": 3, "max_hours": 1.0}}
    group(tmp_path, "body", [1.0, 2.0], env={"variants": [{"name": "a"}]})
    written(tmp_path / "body-s8", evaluation({"a": 1.0, "u1": 1.0}), env=env)
    read_groups([two[0], f"body={tmp_path}/body-s*"])
    written(tmp_path / "plastic-s8", evaluation({"a": 1.0, "u1": 1.0}), **table)
    assert len(read_groups(two)[0].runs) == 6
