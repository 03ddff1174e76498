"""Groups of runs: what is compared, what is refused, what a reader is told. The runs are written, not trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.errors import UsageError
from esd.evaluation.comparison import Comparison, compare
from esd.evaluation.stored import Conditions
from esd.evolution.state import RunState
from esd.run import checkpoint
from esd.run.checkpoint import Checkpoint
from esd.run.folder import RunFolder
from tests.helpers.written_runs import evaluation, group, written

STATIC = {"policy": {"kind": "static", "hidden": [6]}}


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    return (
        group(tmp_path, "plastic", [10.0, 11.0, 12.0, 13.0, 14.0]),
        group(tmp_path, "static", [1.0, 2.0, 3.0, 4.0, 5.0], 20.0, **STATIC),
    )


def test_every_variant_has_means_over_runs_and_tests_against_the_first_group(
    two: tuple[str, str],
) -> None:
    found = compare(two)
    a, unseen = found.rows
    assert (a.name, a.seen, unseen.name, unseen.seen) == ("a", True, "u1", False)
    assert a.means["plastic"].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert a.tests["static"].difference == -9.0
    assert unseen.tests["static"].difference == 11.0
    assert a.tests["static"].p == pytest.approx(2 / 252)
    assert a.corrected["static"] == pytest.approx(4 / 252)
    assert [(g.name, len(g.runs), g.env_steps) for g in found.groups] == [
        ("plastic", 5, 2000.0),
        ("static", 5, 2000.0),
    ]
    assert found.groups[0].runs[0].hours == 1.0
    assert found.groups[0].runs[0].generations == 2
    assert found.conditions == Conditions("last", 0, 9)


def test_holm_goes_over_all_tests_of_the_table_and_only_over_those(
    two: tuple[str, str],
) -> None:
    one = compare(two, ["u1"])
    assert [row.name for row in one.rows] == ["u1"]
    assert one.rows[0].corrected == {"static": pytest.approx(2 / 252)}


def test_variants_are_named_by_patterns_too(two: tuple[str, str]) -> None:
    assert [row.name for row in compare(two, ["u*"]).rows] == ["u1"]
    assert [row.name for row in compare(two, ["u1", "?", "*"]).rows] == ["u1", "a"]
    refused(r"--variant v\*: no run was evaluated on it", *two, variants=["v*"])


def test_a_policy_that_sees_its_last_action_is_in_the_same_world(tmp_path: Path) -> None:
    words = []
    for name, wrapper in (("p", None), ("q", "esd_envs:LastActionAndReward"), ("r", "my:Wrapper")):
        for seed in range(2):
            found = evaluation({"a": 1.0 * seed})
            wrappers = [{"id": wrapper, "kwargs": {}}] if wrapper else []
            found["variants"][0]["world"]["wrappers"] = wrappers
            written(tmp_path / f"{name}-s{seed}", found)
        words.append(f"{name}={tmp_path}/{name}-s*")
    assert [row.name for row in compare(words[:2]).rows] == ["a"]
    refused("wrappers is .* returns in different environments", words[0], words[2])


def test_an_evaluation_of_single_variants_adds_to_the_others(tmp_path: Path) -> None:
    words = []
    for name in ("p", "q"):
        for seed in range(2):
            parts = evaluation({"a": 1.0 * seed}), evaluation({"u1": 2.0 * seed})
            written(tmp_path / f"{name}-s{seed}", *parts)
        words.append(f"{name}={tmp_path}/{name}-s*")
    assert [row.name for row in compare(words).rows] == ["a", "u1"]


def refused(match: str, *words: str, **options: Any) -> None:
    with pytest.raises(UsageError, match=match) as error:
        compare(words, **options)
    assert "\n" not in str(error.value)


def test_a_variant_that_nobody_was_evaluated_on_is_refused(two: tuple[str, str]) -> None:
    refused("--variant u2: no run was evaluated on it, known: a, u1", *two, variants=["u2"])


def test_runs_without_an_evaluation_are_named_with_the_command_to_run(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    path = written(tmp_path / "static-s8", **STATIC)
    refused(rf"{path}: not evaluated; run esd eval {path}$", *two)


def test_evaluations_of_older_versions_dont_count(tmp_path: Path, two: tuple[str, str]) -> None:
    old = {"run": "x", "mean": 3.0, "returns": [3.0]}
    path = written(tmp_path / "static-s8", old, **STATIC)
    refused(rf"{path}: not evaluated", *two)


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "esd-evaluation-2", "seed": ' + b"9" * 10_000 + b"}",
        b'{"format": "esd-evaluation-2"}',
    ],
)
def test_a_damaged_evaluation_is_passed_over_with_a_warning(
    damaged: bytes, two: tuple[str, str], tmp_path: Path
) -> None:
    whole = compare(two)
    path = next(tmp_path.glob("static-s*")) / "evaluations" / "damaged.json"
    path.write_bytes(damaged)
    said: list[str] = []
    assert compare(two, warn=said.append).rows[0].corrected == whole.rows[0].corrected
    assert len(said) == 1
    assert str(path) in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"seed": 1}, "--seed 0"),
        ({"episodes": 5}, "--episodes 9"),
        ({"checkpoint": "best"}, "--checkpoint last"),
        ({"settings": {"env.max_steps": 3}}, "--checkpoint last --episodes 9 --seed 0$"),
        ({"rules": "random"}, "--checkpoint last --episodes 9 --seed 0$"),
    ],
)
def test_runs_evaluated_in_another_way_are_named_with_the_command_that_is_missing(
    changes: dict[str, Any], flags: str, tmp_path: Path, two: tuple[str, str]
) -> None:
    path = written(tmp_path / "static-s8", evaluation({"a": 1.0, "u1": 1.0}, **changes), **STATIC)
    refused(rf"not all runs were evaluated in the same way: {path} not with .*{flags}", *two)


def test_a_variant_that_some_runs_lack_is_named_with_the_command(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    path = written(tmp_path / "static-s8", evaluation({"a": 1.0}), **STATIC)
    refused(rf"{path}: not evaluated on variant 'u1'; run esd eval {path} .*--variant u1", *two)
    assert [row.name for row in compare(two, ["a"]).rows] == ["a"]


def test_runs_of_different_functions_are_not_to_be_evaluated_on_each_other(tmp_path: Path) -> None:
    words = []
    for name in ("sphere", "rosenbrock"):
        table = {
            "objective": {
                "function": name,
                "direction": "minimize",
                "parameters": {"x": {"shape": [4]}},
            }
        }
        for seed in (0, 1):
            found = {**evaluation({name: 1.0}), "objective": {}}
            written(tmp_path / f"{name}-s{seed}", found, **table)
        words.append(f"{name}={tmp_path}/{name}-s*")
    refused(r"rosenbrock-s0.* has another objective.function than 'sphere'; values of diff", *words)


def test_other_worlds_under_the_same_name_are_refused(tmp_path: Path, two: tuple[str, str]) -> None:
    stored = evaluation({"a": 1.0, "u1": 1.0})
    stored["variants"][1]["world"]["max_steps"] = 7
    written(tmp_path / "static-s8", stored, **STATIC)
    refused("variant 'u1': max_steps is 0 in .* but 7 in .*static-s8", *two)


def test_among_several_ways_the_plain_one_is_taken_or_one_has_to_be_chosen(
    tmp_path: Path,
) -> None:
    words, frozen = [], {"policy.freeze_after": 3}
    for name in ("p", "q"):
        for seed in range(2):
            written(
                tmp_path / f"{name}-s{seed}",
                evaluation({"a": 1.0 * seed}),
                evaluation({"a": 5.0 * seed}, settings=frozen),
            )
        words.append(f"{name}={tmp_path}/{name}-s*")
    assert compare(words).rows[0].means["p"].tolist() == [0.0, 1.0]
    chosen = Conditions("last", 0, 9, settings=json.dumps(frozen))
    assert compare(words, key=chosen.key).rows[0].means["p"].tolist() == [0.0, 5.0]
    refused(rf"--conditions x: .*{chosen.key} \(last checkpoint", *words, key="x")
    for path in tmp_path.glob("*-s*"):
        (path / "evaluations" / "2.json").write_text(json.dumps(evaluation({"a": 1.0}, seed=4)))
    refused("evaluated with several settings; choose one with --conditions: .*seed 4", *words)


def test_an_evaluation_of_an_h_that_training_has_left_behind_is_refused(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    stale = evaluation({"a": 1.0, "u1": 1.0}, generation=1)
    path = written(tmp_path / "static-s8", stale, **STATIC)
    refused(
        rf"{path}: was evaluated at generation 1, but its last .* generation 2; run esd eval", *two
    )
    (path / "evaluations" / "1.json").write_text(json.dumps(evaluation({"a": 1.0, "u1": 4.0})))
    assert compare(two).rows[1].means["static"][-1] == 4.0


def test_an_evaluation_of_a_best_h_that_training_has_surpassed_is_refused(tmp_path: Path) -> None:
    """Its generation is that of the best checkpoint, not the last one of the run."""
    stored = evaluation({"a": 1.0}, checkpoint="best", generation=1)
    for name in ("p", "q"):
        for seed in range(2):
            best_of(written(tmp_path / f"{name}-s{seed}", stored), 1)
    words = [f"{name}={tmp_path}/{name}-s*" for name in ("p", "q")]
    assert compare(words).conditions.checkpoint == "best"
    best_of(tmp_path / "q-s1", 2)
    refused(
        r"q-s1: was evaluated at generation 1, but its best .* generation 2; run esd eval", *words
    )


def best_of(path: Path, generation: int) -> None:
    """Give a written run a best checkpoint of a generation."""
    state = RunState.of_arrays(generation, {"h": np.zeros(3, np.float32)})
    (path / "checkpoints").mkdir(exist_ok=True)
    checkpoint.save(RunFolder(path).best_file, Checkpoint("", state, 1.0))


def test_a_mean_that_is_not_finite_is_refused(tmp_path: Path, two: tuple[str, str]) -> None:
    path = written(tmp_path / "static-s8", evaluation({"a": None, "u1": 1.0}), **STATIC)
    refused(rf"{path}: an episode on variant 'a' has no finite return", *two)


def notes(found: Comparison, word: str) -> list[str]:
    return [note for note in found.notes if word in note]


def test_too_few_runs_for_any_small_p_are_noted(tmp_path: Path, two: tuple[str, str]) -> None:
    assert not notes(compare(two), "below")
    few = group(tmp_path, "few", [1.0, 2.0], population=6)
    (note,) = notes(compare([two[0], few]), "below")
    assert note == ("few against plastic, 2 and 5 runs: p can't be below 0.0952 with so few runs")
    four = [group(tmp_path, n, [1.0, 2.0, 3.0, 4.0], population=p) for n, p in (("c", 8), ("d", 4))]
    assert notes(compare(four), "after Holm's correction for 2 tests, p can't be below 0.05")
    assert not notes(compare(four, ["a"]), "Holm")


def test_unequal_training_is_noted(tmp_path: Path, two: tuple[str, str]) -> None:
    assert not notes(compare(two), "environment steps")
    for name, steps, share in (("more", 1500, "1.50"), ("fewer", 500, "0.50")):
        other = group(tmp_path, name, [1.0] * 5, population=6, steps=steps)
        (note,) = notes(compare([two[0], other]), "environment steps")
        assert f"{share} × the environment steps of plastic" in note


def test_what_the_groups_differ_in_is_noted(tmp_path: Path, two: tuple[str, str]) -> None:
    (note,) = notes(compare(two), "differs")
    assert note == "static differs from plastic in policy.initial_weights, policy.kind"
    frozen = group(
        tmp_path, "frozen", [1.0] * 5, policy={"hidden": [6], "freeze_after": 3}, population=6
    )
    (note,) = notes(compare([two[0], frozen]), "differs")
    assert note == "frozen differs from plastic in policy.freeze_after, population"


def test_a_variant_that_only_some_have_seen_is_noted(tmp_path: Path, two: tuple[str, str]) -> None:
    stored = evaluation({"a": 1.0, "u1": 1.0})
    stored["variants"][1]["seen"] = True
    written(tmp_path / "static-s8", stored, **STATIC)
    found = compare(two)
    assert found.rows[1].seen is None
    assert notes(found, "'u1' was used for training in some")


def test_three_groups_have_two_tests_per_variant(tmp_path: Path, two: tuple[str, str]) -> None:
    third = group(tmp_path, "third", [3.0, 3.0, 3.0, 30.0, 30.0], population=6)
    found = compare([*two, third])
    assert set(found.rows[0].tests) == {"static", "third"}
    assert found.rows[0].corrected["static"] == pytest.approx(4 * 2 / 252)
    assert np.isclose(found.rows[0].tests["third"].difference, 13.8 - 12.0)
