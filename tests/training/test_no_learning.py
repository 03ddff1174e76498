"""Why a center makes no progress: each sentence from crafted metrics or a small run, and none from a healthy run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.settings import Config
from esd.evolution.halves import Halves, agreement, first_half
from esd.evolution.noise import Noise
from esd.evolution.records import Records, Status
from esd.run import metrics
from esd.run.folder import RunFolder
from esd.training.diagnosis import Course, Finding, diagnose
from tests.helpers.configs import objective, small
from tests.helpers.training import trained

AIMED = small(
    "cartpole", "generations=40", "population=64", "run.center_every=1", "env.episodes_per_member=1"
)
CONFIG = dataclasses.replace(AIMED, run=dataclasses.replace(AIMED.run, target_return=None))
H_SIZE = 100
LINE = {
    "return_mean": 20.0, "return_min": 8.0, "return_max": 50.0, "return_std": 9.0, "center_return": 21.0,
    "center_std": 2.0, "failed_members": 0, "tied_share": 0.1, "tied_pairs": 0.0, "gradient_agreement": 0.1,
    "sigma": 0.2, "sigma_min": 0.2, "sigma_max": 0.2, "learning_rate": 0.2, "h_norm": 30.0, "update_norm": 0.5,
}  # fmt: skip


def found(config: Config = CONFIG, learns: float = 0.0, **changes: Any) -> list[Finding]:
    """Forty generations with these values; one that is called is a function of the generation."""
    lines = []
    for t in range(41):
        line = {**LINE, "center_return": 21.0 + learns * t, "generation": t}
        line |= {k: value(t) if callable(value) else value for k, value in changes.items()}
        lines.append(line)
    return diagnose(Course.of_lines(lines, config, H_SIZE))


def noise_only(t: int) -> float:
    """A cosine as it is without a signal: 0 on average, with the standard deviation 1/√|h|."""
    return float(np.random.default_rng(t).normal()) / math.sqrt(H_SIZE)


def test_of_a_run_that_learns_nothing_is_said_whatever_its_noise() -> None:
    assert found(learns=1.0) == []
    strange = {"tied_pairs": 0.9, "return_std": 1.0, "h_norm": lambda t: 30.0 * 1.2**t}
    assert found(learns=1.0, **strange, gradient_agreement=noise_only, sigma=1e-4) == []


def test_a_plateau_with_a_signal_is_no_finding() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"tied_pairs": 0.9}, "tied_pairs", ["both members of at least 80%", "a larger es.sigma"]),
        (
            {"return_std": 2.1},
            "no_spread",
            [
                "standard deviation 2.1",
                "(2)",
                "differ by chance",
                "increase es.sigma or env.episodes",
            ],
        ),
        (
            {"gradient_agreement": noise_only},
            "no_signal",
            ["are not related", "over 40 generations", "increase population", "es.sigma (now 0.2)"],
        ),
        (
            {"h_norm": lambda t: 30.0 * 1.2**t},
            "growing_parameters",
            ["grew from 30 to", "did not improve", "a smaller es.learning_rate"],
        ),
        (
            {"sigma": lambda t: 0.2 * 0.8**t, "sigma_max": 0.2},
            "sigma_collapsed",
            ["shrank from 0.2 to", "did not improve", "es.sigma_decay"],
        ),
    ],
)
def test_what_keeps_a_center_from_progress_is_named_with_what_to_try(
    changes: dict[str, Any], name: str, words: list[str]
) -> None:
    (finding,) = found(**changes)
    assert finding.name == name
    assert all(word in finding.text for word in words), finding.text
    assert finding.text.endswith(".")
    assert len(finding.text) < 400


def test_only_the_cause_is_named_and_not_what_follows_from_it() -> None:
    followers = {"return_std": 1.0, "gradient_agreement": noise_only}
    assert [f.name for f in found(tied_pairs=0.9, **followers)] == ["tied_pairs"]
    same = {"return_min": 5.0, "return_max": 5.0, "update_norm": 0.0, "tied_pairs": 1.0}
    assert [f.name for f in found(**same, **followers)] == ["constant_return"]


def test_a_missed_target_makes_a_collapsed_sigma_a_finding_although_the_run_learned() -> None:
    assert AIMED.run.target_return == 498.0
    shrinking = {"sigma": lambda t: 0.2 * 0.8**t, "sigma_max": 0.2}
    (finding,) = found(AIMED, learns=1.0, **shrinking)
    assert "its target return was not reached" in finding.text
    reached = lambda t: 500.0 if t == 40 else 21.0 + t  # noqa: E731
    assert found(AIMED, center_return=reached, **shrinking) == []


def test_nothing_is_said_about_a_signal_that_could_not_be_seen() -> None:
    """Of a large h even a perfect gradient shows only after many generations."""
    lines = [{**LINE, "generation": t, "gradient_agreement": 0.0} for t in range(41)]
    assert [f.name for f in diagnose(Course.of_lines(lines, CONFIG, H_SIZE))] == ["no_signal"]
    assert diagnose(Course.of_lines(lines, CONFIG, 1_000_000)) == []
    assert diagnose(Course.of_lines(lines[:5], CONFIG, H_SIZE)) == []
    assert diagnose(Course.of_lines(lines, CONFIG, None)) == []


def test_luck_is_smaller_with_more_episodes_per_member_and_not_compared_where_it_is_shared() -> (
    None
):
    more = small("cartpole", "generations=40", "env.episodes_per_member=4", "run.center_every=1")
    assert found(more, return_std=2.1) == []
    assert [f.name for f in found(more, return_std=1.1)] == ["no_spread"]
    shared = small(
        "cartpole", "generations=40", "run.center_every=1", 'es.common_random_numbers="generation"'
    )
    assert found(shared, return_std=1.1) == []


def test_a_minimized_value_improves_downwards() -> None:
    config = objective("sphere", "generations=40", "run.center_every=1")
    assert found(config, learns=-0.1, tied_pairs=0.9) == []
    assert [f.name for f in found(config, learns=0.1, tied_pairs=0.9)] == ["tied_pairs"]


def test_a_small_run_on_noise_alone_says_that_there_is_no_signal_and_one_that_learns_says_nothing(
    tmp_path: Path,
) -> None:
    settings = ("generations=30", "population=32", "run.center_every=1")
    x = {"shape": [10], "initial": 0.5}
    alone = 'es.common_random_numbers="none"'
    noise = objective("tests.helpers.user_functions:luck", *settings, alone, x=x)
    ending = trained(noise, tmp_path / "noise")
    assert {f.name for f in ending.findings} & {"no_signal", "no_spread"}, ending.findings
    assert trained(objective("sphere", *settings, x=x), tmp_path / "sphere").findings == ()
    line = metrics.read(RunFolder(tmp_path / "sphere").metrics_file)[0]
    assert line["schema"] == metrics.SCHEMA
    assert line["gradient_agreement"] > 0.1  # of a quadratic function far from its minimum


def test_the_agreement_of_the_halves_is_the_cosine_of_gradients_from_the_noise_itself() -> None:
    """Against plain numpy in float64, for sizes around a block and beyond a piece."""
    for size in (7, 4097, 70_000):
        noise, weights = Noise("gaussian", 5), np.linspace(-1, 1, 6, dtype=np.float32)
        out, halves = np.empty(size, np.float32), Halves(size)
        noise.accumulate(weights, 3, out, 0, halves)
        plain = np.empty_like(out)
        noise.accumulate(weights, 3, plain)
        assert out.tobytes() == plain.tobytes()
        epsilons = [noise.epsilon(p, 3, 0, size).astype(np.float64) for p in range(6)]
        terms = [w * e for w, e in zip(weights.astype(np.float64), epsilons, strict=True)]
        first, second = sum(terms[:3]), sum(terms[3:])
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        own = agreement(halves.partials.sum(axis=1).tolist())
        assert own == pytest.approx(cosine, abs=1e-5)
    assert first_half(weights).tolist() == [*weights[:3].tolist(), 0.0, 0.0, 0.0]
    assert agreement([0.0, 0.0, 1.0]) is None


def test_tied_pairs_and_the_spread_of_the_center_are_counted_from_the_records() -> None:
    records = Records(8, 3, 0)
    for row, value in enumerate([1.0, 1.0, 2.0, 3.0, math.nan, math.inf, 4.0, 4.0]):
        status = Status.DONE if math.isfinite(value) else Status.NOT_FINITE
        records.write(row, returns=[value], steps=1, episodes=1, status=status)
    for row, value in enumerate([10.0, 14.0, 12.0], 8):
        records.write(row, returns=[value], steps=1, episodes=1, status=Status.DONE)
    line = metrics.of_records(CONFIG, records)
    assert line["tied_pairs"] == 3 / 4  # two that failed say as little as two that are equal
    assert line["center_std"] == 2.0
    assert metrics.of_records(CONFIG, Records(0, 1, 0))["tied_pairs"] is None
