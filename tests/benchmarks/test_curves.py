"""Figures of groups of runs."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

from benchmarks.curves import draw_training


def test_every_group_is_drawn_and_told_apart() -> None:
    curve = {"env_steps": [0, 10, 20], "center_return": [1.0, 2.0, 3.0]}
    groups: dict[str, Any] = {f"group {i}": [{"curve": curve}] for i in range(6)}
    axes = MagicMock()
    draw_training(axes, groups)
    medians = [call.kwargs for call in axes.plot.call_args_list if "label" in call.kwargs]
    assert [own["label"] for own in medians] == [f"{name} (1 run, median)" for name in groups]
    assert len({(own["color"], own["linestyle"]) for own in medians}) == len(groups)
