"""What runs reach in test episodes in which plasticity is frozen after some steps."""

from __future__ import annotations

import statistics
from typing import Any

FREEZE = "policy.freeze_after"


def _ways(run: dict[str, Any]) -> dict[tuple[Any, ...], dict[int, dict[str, float]]]:
    """By checkpoint, seed and episodes of a test, and by the step after which it froze plasticity, its means.

    Of an h that training has gone beyond none count.
    """
    newest: dict[tuple[Any, ...], int] = {}
    ways: dict[tuple[Any, ...], dict[int, dict[str, float]]] = {}
    for evaluation in sorted(run["evaluations"], key=lambda e: int(e["generation"])):
        settings = evaluation["settings"]
        if settings.keys() - {FREEZE} or evaluation["rules"] != "evolved":
            continue
        way = tuple(evaluation[key] for key in ("checkpoint", "seed", "episodes"))
        if newest.get(way) != evaluation["generation"]:
            newest[way], ways[way] = evaluation["generation"], {}
        means = {variant["name"]: variant["mean"] for variant in evaluation["variants"]}
        ways[way].setdefault(settings.get(FREEZE, 0), {}).update(means)
    return ways


def frozen(runs: list[dict[str, Any]]) -> dict[int, list[float]]:
    """By the step after which evaluations froze plasticity, each run's return on the variants played; 0: never.

    Of several ways to evaluate the one with the most such steps; they are not mixed.
    """
    of_runs = [_ways(run) for run in runs]
    candidates = [_frozen_in(runs, [ways.get(way, {}) for ways in of_runs]) for way in of_runs[0]]
    return max(candidates, key=len, default={})


def _frozen_in(
    runs: list[dict[str, Any]], of_runs: list[dict[int, dict[str, float]]]
) -> dict[int, list[float]]:
    """``frozen`` of evaluations done in one way."""
    found: dict[int, list[float]] = {}
    for run, played in zip(runs, of_runs, strict=True):
        shared = set.intersection(*map(set, played.values())) if played else set()
        for step, means in played.items() if shared else ():
            returns = [means[name] for name in shared]
            value = min(returns) if run["reduce"] == "min" else statistics.mean(returns)
            found.setdefault(step, []).append(value)
    return {step: means for step, means in found.items() if len(means) == len(runs)}
