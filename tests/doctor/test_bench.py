"""What ``esd bench`` computes: figures in turns, and nothing left open when one of them fails."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esd.doctor import bench
from esd.doctor.turns import in_turns, quartiles
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.episodes.side_by_side import SideBySide
from esd.mpi.comm import Alone
from tests.helpers.configs import small


def test_contenders_take_turns_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []

    def contender(name: str, start: float) -> Any:
        def measure() -> float:
            calls.append(name)
            return start + len(calls)

        return measure

    taken = in_turns([contender("a", 0.0), contender("b", 100.0)], 3)
    assert calls == ["a", "b"] * 4
    np.testing.assert_array_equal(taken, [[3, 104], [5, 106], [7, 108]])


def test_quartiles_are_those_of_a_quarter_and_three_quarters() -> None:
    assert quartiles([4.0, 0.0, 1.0, 3.0, 2.0]) == (1.0, 3.0)


@pytest.mark.parametrize("part", ["rollout", "ranks"])
def test_environments_are_closed_when_a_measurement_fails(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    made = make_environment(small().env)
    monkeypatch.setattr(made, "close", lambda: closed.append("bare"))
    monkeypatch.setattr(bench, "make_environment", lambda env: made)
    monkeypatch.setattr(Rollout, "close", lambda self: closed.append("rollout"))

    def fails(*arguments: object) -> float:
        raise RuntimeError("the simulator has gone")

    monkeypatch.setattr(SideBySide, "fill", fails)
    config = small()
    measured = {
        "rollout": lambda: bench.rollout(config, 0.01, 1),
        "ranks": lambda: bench.ranks(Alone(), config, 0.01, 1),
    }[part]()
    with pytest.raises(RuntimeError, match="the simulator has gone"):
        next(measured)
    assert closed == (["bare", "rollout"] if part == "rollout" else ["rollout"])


def test_each_rank_evaluates_its_own_members_by_the_player_of_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, list[int], int]] = []
    fill = SideBySide.fill

    def noted(self: SideBySide, state: Any, rows: Any, records: Any) -> None:
        own = list(rows)
        fill(self, state, iter(own), records)
        asked.append((state.generation, own, records.steps))

    monkeypatch.setattr(SideBySide, "fill", noted)
    episodes = bench._Episodes(small("cartpole", "population=10"), 3, 1)
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))  # a second at every look
    monkeypatch.setattr(bench, "time", clock)
    rate = episodes.rate(13.5)
    episodes.close()
    assert rate > 0.0
    assert [(generation, own) for generation, own, _ in asked] == [
        (0, [1, 4, 7]),
        (1, [1, 4, 7]),
        (2, [1, 4, 7]),
        (3, []),
    ]
    assert len({steps for _, _, steps in asked}) > 2, "every generation has episodes of its own"
