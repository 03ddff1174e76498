"""Ask and tell in a loop of one's own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import esd
from esd.errors import UsageError


def sphere(x: Any) -> float:
    return float(np.sum(np.square(x, dtype=np.float64)))


def evolved(generations: int, direction: str = "minimize", **settings: Any) -> esd.Evolution:
    given = {"population": 16, "sigma": 0.2, "optimizer": "adam", "learning_rate": 0.1, **settings}
    evolution = esd.Evolution(np.full(6, 2.0), direction=direction, **given)
    sign = 1.0 if direction == "minimize" else -1.0
    for _ in range(generations):
        evolution.tell([sign * sphere(x) for x in evolution.ask()])
    return evolution


def test_a_sphere_is_minimized() -> None:
    evolution = evolved(150)
    assert evolution.generation == 150
    assert sphere(evolution.center) < 0.01


def test_minimizing_f_is_maximizing_minus_f_bit_for_bit() -> None:
    np.testing.assert_array_equal(evolved(5).center, evolved(5, "maximize").center)


def test_it_makes_the_updates_of_the_algorithm_itself() -> None:
    from esd.config.tables import parse
    from esd.evolution.layout import Layout
    from esd.evolution.state import make_strategy

    table = {"population": 16, "es": {"sigma": 0.2, "optimizer": "adam", "learning_rate": 0.1}}
    algorithm = make_strategy(parse(table, "test"), Layout({"": (6,)}))
    state = algorithm.start(np.full(6, 2.0, np.float32))
    for _ in range(3):
        members = [algorithm.ask(state, member, np.empty_like(state.h)) for member in range(16)]
        state = algorithm.tell(state, -np.array([sphere(x) for x in members]))
    np.testing.assert_array_equal(evolved(3).center, state.h)


def test_named_parameters_keep_their_names_and_shapes() -> None:
    initial = {"weights": np.ones((2, 3)), "bias": 0.5}
    evolution = esd.Evolution(initial, direction="maximize", population=4)
    members = evolution.ask()
    assert len(members) == 4
    assert {name: array.shape for name, array in members[0].items()} == {
        "weights": (2, 3),
        "bias": (),
    }
    # mirrored pairs lie around the center
    np.testing.assert_allclose(members[0]["weights"] + members[1]["weights"], 2.0, rtol=1e-6)
    np.testing.assert_array_equal(members[2]["bias"], evolution.parameters(2)["bias"])
    evolution.tell(np.arange(4))
    assert evolution.center["weights"].shape == (2, 3)


def test_a_failed_member_ranks_worst() -> None:
    with_nan, with_worst = (esd.Evolution([0.0], direction="maximize", population=4) for _ in "12")
    with_nan.tell([1.0, np.nan, 2.0, 3.0])
    with_worst.tell([1.0, -9.0, 2.0, 3.0])
    np.testing.assert_array_equal(with_nan.center, with_worst.center)


def test_a_saved_state_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    first = evolved(3)
    first.save(tmp_path / "state.safetensors")
    other = evolved(0)
    other.load(tmp_path / "state.safetensors")
    assert other.generation == 3
    for evolution in (first, other):
        evolution.tell([-sphere(x - 1.0) for x in evolution.ask()])
    np.testing.assert_array_equal(first.center, other.center)
    stranger = evolved(0, sigma=0.3)
    with pytest.raises(esd.UsageError, match="saved with other settings"):
        stranger.load(tmp_path / "state.safetensors")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: esd.Evolution([0.0], direction="down"), "expected 'maximize' or 'minimize'"),
        (lambda: esd.Evolution([0.0], direction="minimize", sigma=-1.0), "es.sigma = -1.0: expected more than 0"),
        (lambda: esd.Evolution([0.0], direction="minimize", population=3), "population = 3: expected an even"),
        (lambda: esd.Evolution(["a"], direction="minimize"), "expected an array of numbers"),
        (lambda: esd.Evolution({"w": [np.nan]}, direction="minimize"), "initial 'w': expected finite"),
        (lambda: esd.Evolution([0.0], direction="minimize", algorithm="cma"), "es.algorithm = 'cma'"),
        (lambda: evolved(0).tell([1.0]), r"values have shape \(1,\), expected \(16,\)"),
        (lambda: evolved(0).tell(["x"] * 16), "expected numbers, one per member"),
        (lambda: evolved(0).tell(["1"] * 16), r"expected numbers, one per member \('1' is none\)"),
        (lambda: evolved(0).tell([None] + [1.0] * 15), r"expected numbers, one per member \(None is none\)"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_is_expected(call: Any, message: str) -> None:
    with pytest.raises(esd.UsageError, match=message):
        call()


def test_fitness_penalty_is_subtracted_as_in_training() -> None:
    def center(values: Any, **settings: Any) -> Any:
        evolution = esd.Evolution([3.0, 1.0], direction="minimize", population=8, **settings)
        for _ in range(2):
            evolution.tell([values(x) for x in evolution.ask()])
        return evolution.center

    penalized = center(lambda x: 0.0, fitness_penalty=2.0)
    oracle = center(lambda x: 2.0 * np.mean(np.square(x, dtype=np.float64)))
    assert not np.array_equal(penalized, [3.0, 1.0])
    np.testing.assert_array_equal(penalized, oracle)


def test_a_setting_without_effect_in_a_loop_of_ones_own_is_refused() -> None:
    with pytest.raises(esd.UsageError, match="common_random_numbers: has no effect"):
        evolved(0, common_random_numbers="none")


@pytest.mark.parametrize(
    ("initial", "direction"),
    [
        (np.zeros((2, 2)), "minimize"),
        (np.zeros(4), "maximize"),
        ({"x": np.zeros(4)}, "minimize"),
    ],
)
def test_a_state_of_other_parameters_or_direction_is_not_loaded(
    tmp_path: Path, initial: Any, direction: str
) -> None:
    saved = tmp_path / "state.safetensors"
    esd.Evolution(np.zeros(4), direction="minimize", population=4).save(saved)
    with pytest.raises(esd.UsageError, match="was saved with other settings"):
        esd.Evolution(initial, direction=direction, population=4).load(saved)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_says_how_to_copy_it(copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"can't be copied or pickled, .* save\(path\)"):
        copied(evolved(0))


def test_numbers_of_numpy_are_numbers() -> None:
    ours = evolved(2, population=16, seed=3, sigma=0.25)
    numpys = evolved(2, population=np.int64(16), seed=np.uint8(3), sigma=np.float32(0.25))
    np.testing.assert_array_equal(ours.center, numpys.center)


@pytest.mark.parametrize("member", [-1, 16, 1.0, "a", True])
def test_a_member_that_is_not_there_is_refused(member: Any) -> None:
    with pytest.raises(esd.UsageError, match=r"member = .* whole number from 0 to 15"):
        evolved(0).parameters(member)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("initial", "message"),
    [({}, "has the keys \\[\\]"), ({1: [0.0]}, "expected names"), ([1e300], "expected finite")],
)
def test_parameters_that_cannot_evolve_are_refused(initial: Any, message: str) -> None:
    with pytest.raises(esd.UsageError, match=message):
        esd.Evolution(initial, direction="minimize")


def test_a_closed_evolution_is_read_but_does_not_go_on(tmp_path: Path) -> None:
    evolution = evolved(1)
    evolution.save(tmp_path / "state.safetensors")
    center = evolution.center
    evolution.close()
    np.testing.assert_array_equal(evolution.center, center)
    with pytest.raises(esd.UsageError, match="is closed"):
        evolution.tell([0.0] * 16)
    with pytest.raises(esd.UsageError, match="is closed"):
        evolution.load(tmp_path / "state.safetensors")
    assert evolution.generation == 1


def test_a_sigma_that_float32_loses_is_refused_with_one_that_it_keeps() -> None:
    with pytest.raises(
        esd.UsageError, match=r"perturbations change none .* Use sigma=2e-06 or more"
    ):
        esd.Evolution(np.ones(5), direction="minimize", sigma=1e-50)


def test_a_population_that_memory_cannot_hold_is_refused() -> None:
    with pytest.raises(
        esd.UsageError, match=r"population = 100,000,000,000: its records take 14,400"
    ):
        esd.Evolution(np.ones(5), direction="minimize", population=10**11)


def test_tensors_are_numbers_with_a_gradient_too() -> None:
    torch = pytest.importorskip("torch")
    numbers = [1.0, 4.0, 2.0, 3.0]
    expected = esd.Evolution([1.0, 2.0], direction="minimize", population=4)
    expected.tell(numbers)
    tensor = torch.tensor(numbers, requires_grad=True)
    for values in (tensor, list(tensor), [tensor[0], 4, np.float32(2.0), 3.0]):
        evolution = esd.Evolution([1.0, 2.0], direction="minimize", population=4)
        evolution.tell(values)
        np.testing.assert_array_equal(evolution.center, expected.center)


def test_imaginary_parts_masks_and_endless_integers_are_not_dropped() -> None:
    with pytest.raises(UsageError, match="array of numbers"):
        esd.Evolution(np.array([1 + 1j]), direction="minimize")
    with pytest.raises(UsageError, match="initial: expected finite numbers"):
        esd.Evolution(np.ma.masked_array([1.0, 2.0], mask=[True, False]), direction="minimize")
    evolution = esd.Evolution([1.0, 2.0], direction="minimize", population=4)
    for values in (np.array([1, 2, 3, 1j]), [10**400, 1, 2, 3]):
        with pytest.raises(UsageError, match="tell: expected numbers, one per member"):
            evolution.tell(values)
    one, other = (esd.Evolution([1.0, 2.0], direction="minimize", population=4) for _ in range(2))
    one.tell(np.ma.masked_array([1.0, 2.0, 3.0, 4.0], mask=[True, False, False, False]))
    other.tell([float("nan"), 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(one.center, other.center)


def test_a_setting_without_effect_is_told() -> None:
    with pytest.warns(UserWarning, match=r"es\.momentum: no effect with es\.optimizer = 'adam'"):
        esd.Evolution(
            [0.0], direction="maximize", population=4, momentum=0.5, optimizer="adam"
        ).close()
    esd.Evolution([0.0], direction="maximize", population=4, momentum=0.9, optimizer="adam").close()
