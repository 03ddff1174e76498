"""Optimizers and algorithms of a user's own that raise or return what they shouldn't: one line that names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esd.config.tables import parse
from esd.errors import EsdError
from esd.evolution.layout import Layout
from esd.evolution.state import make_strategy
from esd.mpi.comm import JobFailedError
from esd.run.folder import RunFolder
from tests.helpers.configs import small
from tests.helpers.training import trained

BAD = "tests.helpers.bad_algorithms"


def two_generations(**es: str) -> np.ndarray:
    """H after two updates of a small vector."""
    config = parse({"population": 8, "es": es}, "test")
    algorithm = make_strategy(config, Layout({"x": (5000,)}))
    state = algorithm.start(np.zeros(5000, np.float32))
    for generation in range(2):
        out = np.empty(5000, np.float32)
        for member in range(8):
            algorithm.ask(state, member, out)
        state = algorithm.tell(state, np.arange(8.0) + generation)
    return state.h


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RaisesInStep", "step raised KeyError: 'velocity' (bad_algorithms.py, line "),
        ("RaisesInScalars", "initial_scalars raised SystemExit: 4 (bad_algorithms.py, line "),
        ("RaisesInInit", "building it raised FileNotFoundError: [Errno 2] No such file (bad_"),
        (
            "ReturnsNone",
            "step returned None (is a return missing?), expected a dict of its numbers",
        ),
        ("ForgetsScalars", "step returned a dict without steps"),
        ("TextAsScalar", "step returned 'steps': 'one' (str), expected names and numbers"),
        ("HugeNumber", "step returned 'steps': a number that no float64 can hold"),
        ("ForgetsMoments", "step does not write ascent.following, velocity: it contains NaN"),
        (
            "ReplacesMoments",
            "step replaces ascent.following, velocity: write into the vector that is there, for example with "
            "ascent.following['velocity'][...] = …",
        ),
        ("RemovesMoments", "step replaces ascent.following, velocity: write into the vector"),
        ("ReplacesMomentsLater", "step replaces ascent.following, velocity: write into the vector"),
        ("MomentsAsText", "moment_names is 'velocity' (str), expected a tuple of names"),
        ("TakesSigma", "moment_names has sigma, which algorithms have for something else"),
        ("TakesLearningRate", "initial_scalars has learning_rate, which algorithms have for"),
        ("WrongName", "step raised KeyError: 'velocity'"),
    ],
)
def test_an_optimizer_that_goes_wrong_is_named(name: str, message: str) -> None:
    with pytest.raises(EsdError) as caught:
        two_generations(optimizer=f"{BAD}:{name}")
    assert str(caught.value).startswith(f"es.optimizer = '{BAD}:{name}': {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Draws", "KeepsMoments"])
def test_an_optimizer_that_does_another_thing_the_second_time_is_refused_before_training(
    name: str, tmp_path: Path
) -> None:
    setting = f"es.optimizer={BAD}:{name}"
    with pytest.raises(JobFailedError) as caught:
        trained(small("cartpole", setting), tmp_path / "run")
    text = str(caught.value.__cause__)
    assert text.startswith(f"es.optimizer = '{BAD}:{name}': step gave two different results")
    assert "run.allow_drift = true" in text
    assert not (tmp_path / "run").exists()
    assert trained(
        small("cartpole", setting, "run.allow_drift=true", "generations=1"), tmp_path / "drifting"
    ).finished


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RAISES_IN_START", "start raised ValueError: no start (bad_algorithms.py, line "),
        ("RAISES_IN_PERTURB", "perturb raised AssertionError: no noise (bad_algorithms.py, line "),
        ("RAISES_IN_UPDATE", "update raised KeyError: 'nothing' (bad_algorithms.py, line "),
        ("RAISES_WHEN_BUILT", "building it raised ZeroDivisionError"),
        ("BUILDS_NOTHING", "build returned None (is a return missing?), which lacks noise, "),
        ("STARTS_WITH_TEXT", "start returned 'h' (str), expected an EvolutionState"),
        ("STARTS_WITH_DOUBLES", "start returned float64 [5000] as h, expected float32 [5000]"),
        ("STARTS_WITHOUT_SIGMA", "start returned a dict without sigma"),
        ("FORGETS_TRAIL", "update does not write update.after, trail: it contains NaN"),
        (
            "REPLACES_H",
            "update replaces update.after, h: write into the vector that is there, for example with "
            "update.after['h'][...] = …",
        ),
        ("REPLACES_ALL", "update replaces update.after, h, trail: write into the vector"),
        ("FORGETS_MEMBERS", "perturb does not write out, all of it: it contains NaN"),
        ("RETURNS_NOTHING", "update returned None (is a return missing?), expected a dict"),
    ],
)
def test_an_algorithm_that_goes_wrong_is_named(name: str, message: str) -> None:
    with pytest.raises(EsdError) as caught:
        two_generations(algorithm=f"{BAD}:{name}")
    assert str(caught.value).startswith(f"es.algorithm = '{BAD}:{name}': {message}")
    assert "\n" not in str(caught.value)


def test_an_algorithm_may_pass_on_that_a_member_has_no_fitness() -> None:
    """NaN in its vectors is then no sign that it has not written them."""
    config = parse({"population": 2, "es": {"algorithm": f"{BAD}:FOLLOWS_FITNESS"}}, "test")
    algorithm = make_strategy(config, Layout({"x": (5,)}))
    state = algorithm.tell(algorithm.start(np.zeros(5, np.float32)), np.array([1.0, np.nan]))
    assert np.isnan(state.vectors["trail"]).all()


@pytest.mark.parametrize(
    "es", [{"optimizer": f"{BAD}:WholeNumbers"}, {"algorithm": f"{BAD}:COUNTS_WHOLE"}]
)
def test_whole_and_numpy_numbers_are_kept_as_floats_that_checkpoints_can_read(
    es: dict[str, str], tmp_path: Path
) -> None:
    settings = [f"es.{name}={value}" for name, value in es.items()]
    trained(small("cartpole", *settings), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    state = folder.load_checkpoint(folder.checkpoint_files()[-1], folder.config()).state.evolution
    assert {type(value) for value in state.scalars.values()} == {float}
    assert state.scalars.get("steps", state.generation) == state.generation == 4


def test_right_ones_are_left_alone() -> None:
    """An optimizer that is checked makes the same steps as one that is not."""
    assert not np.array_equal(two_generations(optimizer=f"{BAD}:Heavy"), np.zeros(5000))
    assert np.array_equal(two_generations(algorithm=f"{BAD}:CLIMB"), np.zeros(5000))
