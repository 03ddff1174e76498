"""``esd compare`` on runs that were really trained and evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.shell import TINY, esd

BODIES = 'env.variants=[{name = "a"}, {name = "up", id = "esd/HiddenCartPole-v0", unseen = true}]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of each of two arms."""
    folder = tmp_path_factory.mktemp("compared")
    for arm in ("cartpole", "cartpole-static"):
        for seed in (1, 2):
            own = ["--set", f"seed={seed}", "--set", BODIES, "--run", f"runs/{arm}-s{seed}"]
            trained = esd("train", arm, *TINY, *own, cwd=folder)
            assert trained.returncode == 0, trained.stderr
    for run in sorted(folder.glob("runs/*"))[1:]:
        assert esd("eval", run, "--episodes", "3", cwd=folder).returncode == 0
    return folder


GROUPS = ["plastic=runs/cartpole-s[0-9]*", "static=runs/cartpole-static-s[0-9]*"]


def test_a_comparison_tells_what_is_missing_and_then_everything(folder: Path) -> None:
    missing = esd("compare", *GROUPS, cwd=folder)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    command = missing.stderr.partition("run esd ")[2].split()
    assert command == ["eval", "runs/cartpole-s1"]
    assert esd(*command, "--episodes", "3", cwd=folder).returncode == 0

    found = json.loads(esd("compare", *GROUPS, "--json", cwd=folder).stdout)
    assert [(v["name"], v["seen"]) for v in found["variants"]] == [("a", True), ("up", False)]
    for group, arm in zip(found["groups"], ("cartpole", "cartpole-static"), strict=True):
        assert [run["seed"] for run in group["runs"]] == [1, 2]
        for run in group["runs"]:
            assert run["run"] == f"runs/{arm}-s{run['seed']}"
            metrics = (folder / run["run"] / "metrics.jsonl").read_text().splitlines()
            assert run["env_steps"] == json.loads(metrics[-1])["env_steps"]
            assert (run["generations"], group["population"]) == (3, 6)
    for variant in found["variants"]:
        for name, own in variant["groups"].items():
            paths = [r["run"] for g in found["groups"] if g["name"] == name for r in g["runs"]]
            assert own["runs"] == [evaluated(folder / path, variant["name"]) for path in paths]
        assert variant["tests"]["static"]["relabelings"] == 6

    text = esd("compare", *GROUPS, cwd=folder).stdout
    assert text.startswith("evaluated: best checkpoint, 3 test episodes per variant, seed 0\n")
    assert "permutation test over runs, two-sided, all 6 relabelings; Holm over the 2" in text
    assert "3 × 6" in text
    assert "p can't be below 0.333 with so few" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["up", "unseen"] in [row[:2] for row in rows]


def evaluated(run: Path, variant: str) -> float:
    (path,) = (run / "evaluations").glob("*.json")
    means = {v["name"]: v["mean"] for v in json.loads(path.read_text())["variants"]}
    return float(means[variant])


def test_a_pattern_that_takes_both_arms_is_answered_with_a_better_one(folder: Path) -> None:
    wide = esd("compare", "plastic=runs/cartpole-s*", GROUPS[1], cwd=folder)
    assert wide.returncode == 2
    assert "-s[0-9]* matches seeds only" in wide.stderr
    assert "Traceback" not in wide.stderr


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "Missing argument"), ([GROUPS[1]], "one group")]
)
def test_wrong_use_of_compare_is_a_clear_error(
    arguments: list[str], words: str, folder: Path
) -> None:
    result = esd("compare", *arguments, cwd=folder)
    assert result.returncode == 2
    assert words in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_the_old_words_name_the_new_command(folder: Path) -> None:
    for arguments in (GROUPS, ["--json", *GROUPS], ["--help"], []):
        result = esd("report", "compare", *arguments, cwd=folder)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        assert "is now esd compare" in result.stderr
