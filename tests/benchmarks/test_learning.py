"""docs/results.md holds what was read from runs, and runs are read as they are."""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import findings, freezing, joining, learning, measuring
from benchmarks.tables import groups
from benchmarks.tables.markdown import filled
from esd.errors import UsageError
from esd.evaluation.significance import permutation_test
from tests.helpers.shell import TINY, esd

VARIANTS = 'env.variants=[{name="light",kwargs={g=2.0}},{name="moon",kwargs={g=1.6},unseen=true}]'


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two groups of two runs each, trained and evaluated."""
    folder = tmp_path_factory.mktemp("groups")
    for kind in ("hebbian", "static"):
        for seed in (0, 1):
            run = f"{kind}-s{seed}"
            settings = (VARIANTS, "env.id=Pendulum-v1", f"policy.kind={kind}", f"seed={seed}")
            words = [f"--set={setting}" for setting in settings]
            done = esd("train", *TINY[1:], *words, "--run", run, cwd=folder)
            assert done.returncode == 0, done.stderr
            assert esd("eval", run, "--episodes=2", cwd=folder).returncode == 0
            if kind == "hebbian":
                frozen = ("--set=policy.freeze_after=3", "--variant=light", "--episodes=2")
                assert esd("eval", run, *frozen, cwd=folder).returncode == 0
    return learning.read([f"{kind}={folder}/{kind}-s*" for kind in ("hebbian", "static")])


def test_groups_are_read_with_curves_evaluations_and_their_comparison(
    found: dict[str, Any],
) -> None:
    runs = found["arms"]["hebbian"]
    assert [run["seed"] for run in runs] == [0, 1]
    assert all(run["generations"] == 3 and run["curve"]["env_steps"] for run in runs)
    assert runs[0]["curve"]["env_steps"][-1] == runs[0]["env_steps"]
    assert "returns" not in json.dumps(found["arms"])
    text = groups.section(found)
    assert "| hebbian | 0, 1 | 3 × 6 |" in text
    assert "| moon | unseen |" in text
    assert "− hebbian" in text


def test_seeds_that_are_added_later_give_the_table_of_all(
    found: dict[str, Any],
) -> None:
    def changed(run: dict[str, Any], seed: int, by: float) -> dict[str, Any]:
        """The run with another seed, better by so much on every variant."""
        kept = json.loads(json.dumps({**run, "seed": seed}))
        for evaluation in kept["evaluations"]:
            for variant in evaluation["variants"]:
                variant["mean"] += by
        return kept

    early = json.loads(json.dumps(found))
    later = json.loads(json.dumps(found))
    for number, runs in enumerate(later["arms"].values()):
        runs[:] = [changed(run, run["seed"] + 1, 100.0 + 50.0 * number) for run in runs]
    both = joining.joined(early, later)
    assert [run["seed"] for run in both["arms"]["static"]] == [0, 1, 2]
    assert [run["seed"] for run in both["comparison"]["groups"][1]["runs"]] == [0, 1, 2]
    for variant in both["comparison"]["variants"]:
        at = [v["name"] for v in found["comparison"]["variants"]].index(variant["name"])
        means = found["comparison"]["variants"][at]["groups"]["static"]["runs"]
        # seed 1 was read twice: the later reading counts
        expected = [means[0], means[0] + 150.0, means[1] + 150.0]
        assert variant["groups"]["static"]["runs"] == pytest.approx(expected)
        assert variant["tests"]["static"]["relabelings"] == 20  # 6 over 3
    assert joining.joined(both, later) == {**both, **{"words": later["words"]}}
    assert joining.joined(early, early)["comparison"]["variants"] == early["comparison"]["variants"]


def test_runs_of_another_experiment_are_not_added(found: dict[str, Any]) -> None:
    other = json.loads(json.dumps(found))
    other["arms"]["static"][0]["seed"] = 7
    other["settings"]["static"]["es.sigma"] = 0.7
    with pytest.raises(UsageError, match=r"es\.sigma is .* but 0\.7"):
        joining.joined(found, other)
    other = {**found, "worlds": {"elsewhere": {}}}
    with pytest.raises(UsageError, match="other worlds"):
        joining.joined(found, other)
    other = json.loads(json.dumps(found))
    other["worlds"]["moon"]["kwargs"] = {"g": 2.0}
    other["arms"] = {"static": other["arms"]["static"][:1]}  # too few for a comparison
    with pytest.raises(UsageError, match=r"'moon': kwargs is \{'g': 1\.6\} in the kept results"):
        joining.joined(found, other)
    with pytest.raises(UsageError, match="were not kept"):
        joining.joined({k: v for k, v in found.items() if k != "settings"}, found)


def test_a_single_seed_can_be_added(found: dict[str, Any]) -> None:
    one = json.loads(json.dumps({**found, "comparison": None}))
    one["arms"] = {name: runs[1:] for name, runs in one["arms"].items()}
    first = {**found, "arms": {name: runs[:1] for name, runs in found["arms"].items()}}
    both = joining.joined({**first, "comparison": None}, one)
    assert both["comparison"]["variants"] == found["comparison"]["variants"]
    assert both["arms"] == found["arms"]


def test_a_group_is_added_and_one_without_new_runs_stays(found: dict[str, Any]) -> None:
    first, last = found["arms"]

    def only(name: str) -> dict[str, Any]:
        """The result of one of the groups."""
        own = {key: {name: found[key][name]} for key in ("arms", "settings")}
        return json.loads(json.dumps({**found, **own}))  # type: ignore[no-any-return]

    for early in (only(first), found):
        both = joining.joined(early, {**only(last), "comparison": None})
        for key in ("arms", "settings", "worlds"):
            assert both[key] == found[key]
        assert both["comparison"]["variants"] == found["comparison"]["variants"]


def test_groups_of_single_runs_are_joined_without_a_comparison(found: dict[str, Any]) -> None:
    first, last = found["arms"]
    one = {**found, "comparison": None, "arms": {first: found["arms"][first][:1]}}
    other = json.loads(json.dumps(found["arms"][last][:1]))
    other[0]["evaluations"] = []
    both = joining.joined(one, {**one, "arms": {last: other}})
    assert (both["arms"], both["comparison"]) == ({first: one["arms"][first], last: other}, None)
    tested = groups.outcome(both)
    assert tested == groups.outcome(one), "a run without evaluations has no table"
    assert f"| {first}, seed 0 |" in tested
    assert f"| {last} | 0 |" in groups.section(both)


def test_variants_that_are_not_compared_are_in_a_table_without_tests(found: dict[str, Any]) -> None:
    assert groups.untested(found) == "", "all are compared"
    unseen = found["comparison"]["variants"][1:]
    assert [variant["name"] for variant in unseen] == ["moon"]
    text = groups.untested({**found, "comparison": {**found["comparison"], "variants": unseen}})
    light = found["comparison"]["variants"][0]["groups"]["static"]["runs"]
    mean, deviation = statistics.mean(light), statistics.stdev(light)
    assert text.splitlines()[0] == "| not compared |  | hebbian | static |"
    (row,) = text.splitlines()[2:]
    assert row.startswith("| light | seen | ")
    assert row.endswith(f" | {mean:.1f} ± {deviation:.1f} |")


def test_freezing_is_drawn_from_what_all_runs_were_evaluated_with(found: dict[str, Any]) -> None:
    frozen = freezing.frozen(found["arms"]["hebbian"])
    assert {step: len(means) for step, means in frozen.items()} == {3: 2, 0: 2}
    light = [
        variant["mean"]
        for run in found["arms"]["hebbian"]
        for evaluation in run["evaluations"]
        for variant in evaluation["variants"]
        if variant["name"] == "light" and not evaluation["settings"]
    ]
    assert frozen[0] == light  # not the mean with a variant that was never played frozen
    assert set(freezing.frozen(found["arms"]["static"])) == {0}


def test_evaluations_done_in_another_way_or_of_an_older_h_are_not_mixed_in() -> None:
    def evaluation(mean: float, step: int, generation: int = 10, **changes: Any) -> dict[str, Any]:
        own = {"checkpoint": "best", "seed": 0, "episodes": 9, "rules": "evolved"}
        settings = {freezing.FREEZE: step} if step else {}
        variants = [{"name": "a", "mean": mean}]
        return {
            **own,
            "generation": generation,
            "settings": settings,
            "variants": variants,
            **changes,
        }

    # in the order of their files' names: best-g10-… comes before best-g9-… and last-…
    evaluations = [
        evaluation(1.0, 0),
        evaluation(2.0, 5),
        evaluation(3.0, 0, 9),
        evaluation(4.0, 5, 9),
        evaluation(5.0, 0, checkpoint="last"),
        evaluation(6.0, 0, seed=1),
    ]
    run = {"reduce": "mean", "evaluations": evaluations}
    assert freezing.frozen([run, run]) == {0: [1.0, 1.0], 5: [2.0, 2.0]}
    assert freezing.frozen([{**run, "evaluations": []}]) == {}


def test_a_target_is_reached_by_the_first_center_that_has_it_or_more() -> None:
    lines = [
        {"generation": g, "env_steps": 10 * g, "seconds": 0.5 * g, "center_return": center}
        for g, center in enumerate((1.0, None, 2.0, 3.0))
    ]
    assert learning._reached(lines, 2.0) == {"generation": 2, "env_steps": 20, "seconds": 1.0}
    assert learning._reached(lines, 4.0) is learning._reached(lines, None) is None


def test_success_counts_trials_and_references_are_in_the_tables() -> None:
    low, high = measuring.wilson(19, 20)
    assert (low, high) == pytest.approx((0.7639, 0.9911), abs=1e-4)  # R: binom::binom.wilson
    assert measuring.wilson(0, 5)[0] == 0.0
    variants = [{"name": name, "mean": 2.0} for name in ("a", "b")]
    plain = {"generation": 1, "settings": {}, "rules": "evolved", "variants": variants}
    run = {
        **{"seed": 0, "generations": 1, "population": 2, "env_steps": 9e6, "seconds": 1.0},
        **{"core_seconds": 2.0, "target": 5.0, "reached": {"env_steps": 3e6}},
        "evaluations": [plain, {**plain, "rules": "random"}],
    }
    never = {**run, "seed": 1, "reached": None}
    part = {**plain, "settings": {freezing.FREEZE: 4}, "variants": variants[:1]}
    arms = {"hebbian": [run, {**never, "evaluations": [*run["evaluations"], part]}]}
    text = groups.training(arms, {"hebbian": {"runs": 7, "env_steps": 2e6}})
    assert "1 of 2 (9% to 91%), after 3.0 M steps" in text
    assert "7 (2.0 M steps)" in text
    compared = {"arms": arms, "comparison": {"variants": variants}}
    text = groups.references(compared)
    assert "| hebbian, random rules | 2.0 | 2.0 |" in text
    assert "frozen" not in text, "one run has it, on one variant"
    assert groups.references({**compared, "comparison": None}) == ""


def test_the_page_is_made_of_the_results_that_are_kept() -> None:
    page = learning.PAGE.read_text("utf-8")
    parts = learning.parts_of(learning.LEARNING)
    assert parts, "no results are kept"
    assert filled(page, parts, learning.LEARNING) == page
    headings = {
        heading.strip("# ").lower() for heading in page.splitlines() if heading.startswith("#")
    }
    anchors = {
        "".join(c for c in h.replace(" ", "-") if c.isalnum() or c in "-_") for h in headings
    }
    assert {heading for *_, heading in findings.QUESTIONS} <= anchors
    for name in re.findall(r"\(figures/(learning-\S+\.svg)\)", page):
        assert Path(learning.FIGURES / name).is_file()


def test_the_mean_over_unseen_variants_is_tested_as_one_number_of_each_run() -> None:
    kept = json.loads((learning.LEARNING / "cheetah-reversed.json").read_text("utf-8"))
    by_hand = {}
    for group, runs in kept["arms"].items():
        whole = [
            max(
                (e for e in run["evaluations"] if not e["settings"]),
                key=lambda e: len(e["variants"]),
            )
            for run in runs
        ]
        by_hand[group] = [
            sum(v["mean"] for v in own["variants"] if v["name"].startswith("test: ")) / 5
            for own in whole
        ]
    p = permutation_test(by_hand["hebbian"], by_hand["static"]).p
    means = [sum(by_hand[group]) / 10 for group in ("hebbian", "static")]
    row = next(line for line in groups.outcome(kept).splitlines() if "mean of these" in line)
    cells = [cell.strip() for cell in row.split("|")]
    assert [float(cells[k].partition(" ")[0]) for k in (3, 4)] == pytest.approx(means, abs=0.05)
    assert float(cells[5]) == pytest.approx(means[1] - means[0], abs=0.05)
    assert float(cells[6]) == pytest.approx(p, rel=0.01)
    seen = json.loads((learning.LEARNING / "cheetah-damage-quick.json").read_text("utf-8"))
    assert "mean of these" not in groups.outcome(seen), "two of its five variants were trained on"


def test_the_page_and_its_figures_are_made_again_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'esd-mpi[benchmarks]'")
    page = tmp_path / "results.md"
    page.write_text(learning.PAGE.read_text("utf-8"), "utf-8")
    words = ["learning", f"--page={page}", f"--figures={tmp_path}"]
    monkeypatch.setattr(sys, "argv", words)
    learning.main()
    assert page.read_text("utf-8") == learning.PAGE.read_text("utf-8")
    drawn = {path.name for path in tmp_path.glob("learning-*.svg")}
    assert drawn == {path.name for path in learning.FIGURES.glob("learning-*.svg")}
