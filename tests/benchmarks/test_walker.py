"""Walker2d beside evotorch: turns, which centers are compared, and that a center acts as its library has it."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import esd
from benchmarks import walker
from benchmarks.walker import Clock, Group, Point
from esd.config.experiment_files import read_experiment
from esd.config.tables import parse

OBSERVATION = np.linspace(-1.0, 2.0, 17)


def counting(seed: int, folder: Path, clock: Clock) -> Iterator[Point]:
    """Three seconds per update; goes on after those that are written."""
    for n in itertools.count(len(walker.points_of(folder))):
        yield Point(n, 10 * n, 3.0 * n, 4.0 * n)


def test_a_process_trains_in_turns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    group = Group("g", "g", counting, walker.esd_policy, "2", resumes=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("4\n5\n"))
    walker.work(group, 0, tmp_path)
    assert [p.cpu_seconds for p in walker.points_of(tmp_path)] == [0.0, 3.0, 6.0], "6 are 5 already"
    monkeypatch.setattr(sys, "stdin", io.StringIO("6\n7\n"))
    walker.work(group, 0, tmp_path)
    assert [p.generation for p in walker.points_of(tmp_path)] == [0, 1, 2, 3]
    with (tmp_path / "points.jsonl").open("a") as file:
        file.write('{"generation": 4, "env_st')
    assert len(walker.points_of(tmp_path)) == 4, "a line that was cut off"


def test_what_a_process_waits_for_is_not_its_wall_time() -> None:
    clock = Clock(Point(1, 2, 100.0, 200.0))
    clock.skip(50.0)
    point = clock.point(2, 4)
    assert 100.0 <= point.cpu_seconds < 101.0
    assert 149.0 < point.seconds < 151.0


def test_the_last_center_within_seconds_or_steps_is_compared() -> None:
    points = [Point(n, 10 * n, 3.0 * n, 4.0 * n) for n in range(1, 5)]
    assert walker.last_within(points, seconds=7.0).generation == 2
    assert walker.last_within(points, steps=30).generation == 3
    assert walker.last_within(points, seconds=1.0).generation == 1, "the first, if all took longer"


def test_centers_at_equal_seconds_and_at_the_fewest_steps_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Group("slow", "slow", counting, walker.esd_policy, "2")
    fast = Group("fast", "fast", counting, walker.esd_policy, "2")
    for group, steps in ((slow, 10), (fast, 100)):
        folder = tmp_path / f"{group.label}-s0"
        folder.mkdir()
        lines = [json.dumps(walker.asdict(Point(n, steps * n, 2.0 * n, 2.0 * n))) for n in range(9)]
        (folder / "points.jsonl").write_text("\n".join(lines) + "\n")

    def evaluated(group: Group, folder: Path, point: Point, count: int) -> float:
        return float(point.env_steps)

    monkeypatch.setattr(walker, "evaluated", evaluated)
    found = walker.measured(tmp_path, [fast, slow], [0], 8.0, 2)
    (quick,), (late,) = (found["groups"][name]["runs"] for name in ("fast", "slow"))
    assert (found["steps"], quick["at_time"], late["at_time"]) == (40, 400.0, 40.0)
    assert (quick["at_steps"], late["at_steps"]) == (0.0, 40.0)
    with pytest.raises(SystemExit, match="fast-s0 has not trained for 17 s"):
        walker.measured(tmp_path, [fast, slow], [0], 17.0, 2)
    text = walker.section(found)
    assert "| fast | 2 | 0 | 50 | 4 (4 to 4) | 0.00 M | 400 (400 to 400) | 0 (0 to 0) |" in text
    pytest.importorskip("matplotlib")
    walker.draw(found, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert drawn.count("<path") > 10


def test_a_file_of_evotorch_acts_as_its_torch_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    module = torch.nn.Linear(17, 6)
    center = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    mean, deviation = np.full(17, 0.25, np.float32), np.full(17, 2.0, np.float32)
    np.savez(tmp_path / "7.npz", center=center, mean=mean, deviation=deviation)
    _, act = walker.evotorch_policy(tmp_path, 7)
    with torch.no_grad():
        expected = module(torch.tensor((OBSERVATION - 0.25) / 2.0, dtype=torch.float32))
    np.testing.assert_allclose(act(OBSERVATION), expected.clamp(-1.0, 1.0), atol=1e-6)
    assert np.abs(act(1000.0 * OBSERVATION)).max() == 1.0, "clipped"


def test_the_linear_policy_is_trained_and_evaluated(tmp_path: Path) -> None:
    """Tiny; what it does in a state is computed from h and the sums of observations."""
    pytest.importorskip("mujoco")
    train = walker.esd_trainer("walker-clipup", population=4)
    points = [*itertools.islice(train(0, tmp_path, Clock(None)), 3)]
    assert [p.generation for p in points] == [1, 2, 3]
    run = esd.Run(tmp_path / "run")
    assert points[1].env_steps == run.metrics()[1]["env_steps"]
    _, act = walker.esd_policy(tmp_path, 2)
    state = run._folder.state_at(2, run.config, run._folder.journal(run.config))
    mean = state.observations.sums / state.observations.count
    variance = state.observations.squares / state.observations.count - mean**2
    normalized = np.clip((OBSERVATION - mean) / np.sqrt(variance + 1e-8), -10.0, 10.0)
    expected = np.tanh(normalized @ run.h(2).reshape(17, 6))
    np.testing.assert_allclose(act(OBSERVATION), expected, atol=1e-5)
    group = Group("g", "g", train, walker.esd_policy, "4")
    mean_return = walker.evaluated(group, tmp_path, points[1], 2)
    assert math.isfinite(mean_return)
    assert json.loads((tmp_path / "evaluations.json").read_text()) == {"2/2": mean_return}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch.jit.script, which evotorch uses
@pytest.mark.skipif(
    importlib.util.find_spec("evotorch") is None,
    reason="needs evotorch: pip install 'esd-mpi[benchmarks]'",
)
def test_evotorch_is_trained_and_its_centers_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    train = walker.evotorch_trainer(popsize=4)
    first, second = itertools.islice(train(0, tmp_path, Clock(None)), 2)
    assert (first.generation, first.env_steps) == (0, 0)
    assert second.env_steps > 4
    _, start = walker.evotorch_policy(tmp_path, 0)
    assert np.abs(start(OBSERVATION)).max() < 0.01, "it starts from nearly nothing"
    assert walker.evotorch_policy(tmp_path, 1)[1](OBSERVATION).shape == (6,)


@pytest.mark.parametrize("name", ["walker-clipup", "walker-clipup-hebbian"])
def test_the_experiments_have_the_proportions_of_the_reference(name: str) -> None:
    """α = ¾ v_max and a radius of 15 v_max, as ClipUp's authors have them."""
    config = parse(read_experiment(name)[1], name)
    settings: Any = config.es
    sizes = {"walker-clipup": 17 * 6, "walker-clipup-hebbian": 6 * 17 * 6}
    radius = settings.sigma * math.sqrt(sizes[name])
    assert radius / settings.max_speed == pytest.approx(15.0, rel=0.02)
    assert settings.learning_rate / settings.max_speed == pytest.approx(0.75, rel=0.01)
    assert config.env.kwargs == {"healthy_reward": 0.0}
