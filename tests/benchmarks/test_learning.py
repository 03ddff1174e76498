"""docs/results.md holds what was read from runs, and runs are read as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning
from benchmarks.report import filled
from tests.commands.shell import TINY, esd

VARIANTS = 'env.variants=[{name="light",kwargs={g=2.0}},{name="moon",kwargs={g=1.6},unseen=true}]'


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two arms of two runs each, trained and evaluated."""
    folder = tmp_path_factory.mktemp("arms")
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


def test_arms_are_read_with_curves_evaluations_and_their_comparison(found: dict[str, Any]) -> None:
    runs = found["arms"]["hebbian"]
    assert [run["seed"] for run in runs] == [0, 1]
    assert all(run["generations"] == 3 and run["curve"]["env_steps"] for run in runs)
    assert runs[0]["curve"]["env_steps"][-1] == runs[0]["env_steps"]
    assert "returns" not in json.dumps(found["arms"])
    text = learning.section(found)
    assert "| hebbian | 0, 1 | 3 × 6 |" in text
    assert "| moon | unseen |" in text
    assert "− hebbian" in text


def test_freezing_is_drawn_from_what_all_runs_were_evaluated_with(found: dict[str, Any]) -> None:
    frozen = learning._frozen(found["arms"]["hebbian"])
    assert {step: len(means) for step, means in frozen.items()} == {3: 2, 0: 2}
    light = [
        variant["mean"]
        for run in found["arms"]["hebbian"]
        for evaluation in run["evaluations"]
        for variant in evaluation["variants"]
        if variant["name"] == "light" and not evaluation["settings"]
    ]
    assert frozen[0] == light  # not the mean with a variant that was never played frozen
    assert set(learning._frozen(found["arms"]["static"])) == {0}


def test_the_page_is_made_of_the_results_that_are_kept() -> None:
    page = learning.PAGE.read_text("utf-8")
    parts = {path.stem: (path.stem, learning.section) for path in learning.LEARNING.glob("*.json")}
    assert parts, "no results are kept"
    assert filled(page, parts, learning.LEARNING) == page
    for name in parts:
        assert Path(learning.FIGURES / f"learning-{name}.svg").is_file()
