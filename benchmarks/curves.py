"""Figures of groups of trained runs: returns over steps, and over the step after which plasticity is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.freezing import frozen
from benchmarks.plots import OURS, THEIRS, as_svg, save

COLORS = (OURS, "#c1666b", "#6b8f3c", THEIRS)
DASHES = ("-", "--", ":")  # of each color in turn: for up to twelve groups
STYLES = [{"color": color, "linestyle": dash} for dash in DASHES for color in COLORS]


def draw(groups: dict[str, Any], name: str, folder: Path) -> None:
    """The center's return over environment steps, and over the step after which plasticity was frozen in tests."""
    as_svg()
    import matplotlib.pyplot as plt

    tests = {group: found for group, runs in groups.items() if len(found := frozen(runs)) > 1}
    figure, panels = plt.subplots(
        1,
        1 + bool(tests),
        figsize=(8.5 if tests else 6.5, 3.0),
        layout="constrained",
        squeeze=False,
    )
    draw_training(panels[0, 0], groups)
    for style, (group, found) in zip(_styles(tests), tests.items(), strict=True):
        _draw_frozen(panels[0, 1], found, group, style)
    save(figure, folder / f"learning-{name}.svg")


def _styles(groups: dict[str, Any]) -> list[dict[str, str]]:
    """A color and a dash for each group."""
    return [STYLES[i % len(STYLES)] for i in range(len(groups))]


def draw_training(axes: Any, groups: dict[str, Any]) -> None:
    """A thin line per run, a thick one for the group's median."""
    import numpy as np

    for style, (group, runs) in zip(_styles(groups), groups.items(), strict=True):
        curves = [run["curve"] for run in runs]
        for curve in curves:
            millions = np.array(curve["env_steps"]) / 1e6
            axes.plot(millions, curve["center_return"], lw=0.5, alpha=0.7, **style)
        end = max(curve["env_steps"][-1] for curve in curves)
        steps = np.linspace(max(curve["env_steps"][0] for curve in curves), end, 300)
        # a run that ended early, because it had reached its target, keeps its last return
        returns = [np.interp(steps, curve["env_steps"], curve["center_return"]) for curve in curves]
        label = f"{group} ({len(runs)} run{'s' * (len(runs) > 1)}, median)"
        axes.plot(steps / 1e6, np.median(returns, axis=0), lw=2.0, label=label, **style)
    axes.set_xlabel("environment steps, millions")
    axes.set_ylabel("center's return in training")
    axes.legend(fontsize=8)


def _draw_frozen(
    axes: Any, found: dict[int, list[float]], group: str, style: dict[str, str]
) -> None:
    """Each run a thin line, their mean a thick one; never frozen is the last point."""
    import numpy as np

    steps = [*sorted(set(found) - {0}), 0]
    places = np.arange(len(steps))
    runs = np.array([found[step] for step in steps])
    axes.plot(places, runs, lw=0.5, alpha=0.7, **style)
    mean = runs.mean(axis=1)
    axes.plot(places, mean, marker="o", lw=2.0, ms=4, label=f"{group}, mean", **style)
    axes.set_xticks(places, [str(step or "never") for step in steps])
    axes.set_xlabel("step after which plasticity is frozen in a test episode")
    axes.set_ylabel("return in test episodes")
    axes.legend(fontsize=8)
