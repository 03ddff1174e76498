"""Groups of runs: which runs a word names, and what is no group. The runs are written, not trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from esd.errors import UsageError
from esd.evaluation.comparison import compare
from esd.evaluation.groups import STARTED_FROM, newest_by_conditions, read_groups
from esd.evaluation.stored import conditions_of
from esd.run import journal
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
        ({"run": {"center_every": 3}}, "run.center_every"),
        ({"run": {"target_return": 5.0}}, "run.target_return"),
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


def test_only_evaluations_of_the_newest_h_count_in_whichever_order_they_are_read() -> None:
    newer = evaluation({"a": 2.0}, generation=10)
    older = evaluation({"a": 1.0, "u1": 1.0}, generation=9)
    conditions = conditions_of(newer)
    for stored in ([newer, older], [older, newer]):
        found, newest = newest_by_conditions(stored)
        assert {name: own["mean"] for name, own in found[conditions].items()} == {"a": 2.0}
        assert newest[conditions] == 10


def started_from(run: Path, h0_sha256: str) -> None:
    """Make a written run one that began with another run's h."""
    (run / "initial.safetensors").touch()
    header = journal.scan(run / "journal.bin").header
    begun = journal.encode_header(dataclasses.replace(header, h0_sha256=h0_sha256))
    data = (run / "journal.bin").read_bytes().removeprefix(journal.encode_header(header))
    (run / "journal.bin").write_bytes(begun + data)


def test_the_runs_of_a_group_begin_with_the_same_parameters(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    plain = read_groups(two)
    assert not any(STARTED_FROM in run.settings for own in plain for run in own.runs)
    for seed, h0 in ((0, "a" * 64), (1, "a" * 64)):
        started_from(tmp_path / f"static-s{seed}", h0)
    read_groups(two)
    started_from(tmp_path / "static-s1", "b" * 64)
    read_groups(two)  # each with its own
    started_from(tmp_path / "plastic-s4", "c" * 64)
    refused("plastic: --from is not set in .*-s0 but 'another run' in .*-s4", *two)
    for seed in range(5):
        started_from(tmp_path / f"plastic-s{seed}", str(min(seed, 3)) * 64)
    refused("plastic: its 5 runs were started with --from, from 4 different parameters", *two)


def test_a_comparison_says_that_a_group_began_with_other_parameters(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    for seed in (0, 1):
        started_from(tmp_path / f"static-s{seed}", "a" * 64)
    notes = [note for note in compare(two).notes if "differs from" in note]
    assert notes == ["static differs from plastic in --from, policy.initial_weights, policy.kind"]
