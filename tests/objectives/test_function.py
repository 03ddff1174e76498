"""The user's function: what it gets, and what is said of one that isn't right."""

from __future__ import annotations

import decimal
import fractions
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esd.config.objective import ObjectiveConfig
from esd.errors import UsageError
from esd.objectives.function import EvaluationError, Function
from tests.helpers import user_functions

HERE = "tests.helpers.user_functions"
ONE = {"x": np.array([1.0, 2.0])}


def function(name: str, **settings: Any) -> Function:
    return Function(ObjectiveConfig(f"{HERE}:{name}", "minimize", **settings))


def refused(name: str, **settings: Any) -> str:
    """What a call's failure says."""
    called = function(name, **settings)
    with pytest.raises(EvaluationError) as caught:
        called(ONE, 0)
    return str(caught.value)


def test_one_array_is_handed_over_as_it_is_and_a_number_as_a_float() -> None:
    seen = function("seen", kwargs={"scale": 2.0})
    user_functions.SEEN.clear()
    assert seen({"x": np.array([[1.0, 2.0]])}, 5).tolist() == [1.0]
    seen({"x": np.array(3.0)}, 5)
    seen({"a": np.array([1.0]), "b": np.array(2.0)}, 5)
    (array, kwargs), (number, _), (both, _) = user_functions.SEEN
    assert kwargs == {"scale": 2.0}  # and no seed: it has no parameter of that name
    assert array.dtype == np.float64
    assert array.tolist() == [[1.0, 2.0]]
    assert type(number) is float
    assert number == 3.0
    assert both["a"].tolist() == [1.0]
    assert type(both["b"]) is float


def test_the_seed_is_handed_over_if_the_function_takes_one() -> None:
    assert function("returns_the_seed").takes_seed
    assert function("returns_the_seed")(ONE, 1234).tolist() == [1234.0]
    assert not function("norm").takes_seed
    assert not function("seen").takes_seed  # **kwargs ask for nothing
    fixed = function("returns_the_seed", kwargs={"seed": 7})
    assert not fixed.takes_seed
    assert fixed(ONE, 1234).tolist() == [7.0]


def test_global_generators_are_seeded_in_every_call() -> None:
    noisy = function("global_noise")
    first = noisy(ONE, 1)
    assert noisy(ONE, 1).tobytes() == first.tobytes()
    assert noisy(ONE, 2).tobytes() != first.tobytes()


def test_a_function_that_changes_its_array_changes_a_copy() -> None:
    scribbles = function("scribbles")
    parameters = {"x": np.array([1.0, 2.0])}
    assert scribbles(parameters, 0).tolist() == scribbles(parameters, 0).tolist() == [5.0]


def test_a_function_that_changes_the_working_directory_leaves_ours(tmp_path: Path) -> None:
    here = Path.cwd()
    wanders = function("changes_directory", kwargs={"to": str(tmp_path)})
    assert wanders(ONE, 0).tolist() == wanders(ONE, 0).tolist() == [0.0]  # each call begins alike
    assert Path.cwd() == here


def test_a_module_that_changes_the_working_directory_stays_there_and_we_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, theirs = tmp_path, tmp_path / "data"
    theirs.mkdir()
    (theirs / "value").write_text("7")
    source = (
        "import os, pathlib\n"
        f"os.chdir({str(theirs)!r})\n"
        "def read(x): return float(pathlib.Path('value').read_text())\n"
    )
    (here / "wandering_module.py").write_text(source)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    read = Function(ObjectiveConfig("wandering_module:read", "minimize"))
    assert Path.cwd() == here
    assert read(ONE, 0).tolist() == [7.0]
    assert Path.cwd() == here


@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_no_number_and_nothing_else_is_said() -> None:
    assert refused("asynchronous").startswith("returned <coroutine object asynchronous")


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("integer", 3.0),
        ("boolean", 1.0),
        ("numpy scalar", 0.5),
        ("array without axes", 2.0),
    ],
)
def test_any_number_will_do(what: str, value: float) -> None:
    found = function("returns", kwargs={"what": what})(ONE, 0)
    assert found.dtype == np.float64
    assert found.tolist() == [value]


@pytest.mark.parametrize("what", ["two", "named"])
def test_several_values_come_in_order_or_by_name(what: str) -> None:
    found = function("returns", kwargs={"what": what}, values=("a", "b"))(ONE, 0)
    assert found.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("text", "returned '12' (str), expected a number"),
        ("none", "returned None (is a return missing?), expected a number"),
        ("nan", "returned nan, expected a finite number"),
        ("inf", "returned -inf, expected a finite number"),
        ("complex", "returned 1j (complex), expected a number"),
        (
            "array",
            "returned an array of shape (3,), expected one number (several need names: objective.values)",
        ),
        (
            "one in an array",
            "returned an array of shape (1,), expected one number (several need names: objective.values)",
        ),
        ("ragged", "returned [[1.0], [1.0, 2.0]] (list), expected a number"),
        ("dict", "returned {'a': 1.0} (dict), expected a number"),
    ],
)
def test_what_is_no_number_is_named(what: str, message: str) -> None:
    assert refused("returns", kwargs={"what": what}) == message


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "array",
            "returned an array of shape (3,), expected 2 numbers: objective.values = ['a', 'b']",
        ),
        ("integer", "returned 3 (int), expected 2 numbers: objective.values = ['a', 'b']"),
        (
            "dict",
            "returned a dict with keys ['a'], expected those of objective.values = ['a', 'b']",
        ),
        (
            "other keys",
            "returned a dict with keys ['a', 'c'], expected those of objective.values = ['a', 'b']",
        ),
        ("nan among two", "returned b = nan, expected a finite number"),
    ],
)
def test_the_wrong_values_are_named(what: str, message: str) -> None:
    assert refused("returns", kwargs={"what": what}, values=("a", "b")) == message


def test_an_exception_is_told_in_one_line_with_its_place() -> None:
    lines = Path(user_functions.__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "raise ZeroDivisionError" in text)
    place = f"(user_functions.py, line {line})"
    assert refused("raises") == f"raised ZeroDivisionError: the wing broke {place}"


def test_a_compiled_function_that_raises_has_no_place_of_ours() -> None:
    with pytest.raises(EvaluationError) as caught:
        Function(ObjectiveConfig("math:sqrt", "maximize"))({"x": np.array(-1.0)}, 0)
    assert re.fullmatch("raised ValueError: [^()]*", str(caught.value))


def test_a_function_that_exits_ends_a_call_and_not_the_process() -> None:
    assert refused("exits").startswith("raised SystemExit: 3 (user_functions.py, line ")


def test_a_class_is_called_and_its_object_is_no_number() -> None:
    assert "(Model), expected a number" in refused("Model")


@pytest.mark.parametrize(
    "name", ["sleeps", "loops_and_swallows", "hangs_in_a_program", "swallows_everything_once"]
)
def test_a_call_that_takes_too_long_is_ended(name: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    assert refused(name, max_seconds=0.2) == "took longer than objective.max_seconds = 0.2"
    assert time.monotonic() - began < 10.0
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_call_that_is_quick_enough_is_not_ended() -> None:
    assert function("norm", max_seconds=30.0)(ONE, 0).tolist() == [5.0]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_time_limit_outside_of_the_main_thread_is_refused() -> None:
    found: list[str] = []

    def call() -> None:
        try:
            function("norm", max_seconds=30.0)(ONE, 0)
        except UsageError as error:
            found.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert found == [
        "objective.max_seconds: only works in the main thread of a process; remove this setting"
    ]


@pytest.mark.parametrize(
    ("reference", "kwargs", "message"),
    [
        (
            "no_such_module:drag",
            {},
            "objective.function = 'no_such_module:drag': module 'no_such_module' can't be imported (No module named "
            "'no_such_module'); esd looked in the working directory ",
        ),
        (
            f"{HERE}:nrom",
            {},
            f"objective.function = '{HERE}:nrom': no 'nrom' in it, did you mean 'norm'?",
        ),
        ("sphre", {}, "objective.function = 'sphre': did you mean 'sphere'?"),
        (
            f"{HERE}:NOT_A_FUNCTION",
            {},
            f"objective.function = '{HERE}:NOT_A_FUNCTION': is 3.0 (float), expected a function",
        ),
        (
            f"{HERE}:norm",
            {"scale": 2},
            f"objective.function = '{HERE}:norm': has the parameters (x: 'np.ndarray') -> 'float', so it can't be "
            "called with one argument and objective.kwargs = {'scale': 2} (got an unexpected keyword argument 'scale')",
        ),
        (
            f"{HERE}:with_arguments",
            {},
            f"objective.function = '{HERE}:with_arguments': has the parameters (x: 'np.ndarray', *, scale: 'float', "
            "seed: 'int' = 0) -> 'float', so it can't be called with one argument (missing a required argument: "
            "'scale')",
        ),
    ],
)
def test_what_cannot_be_imported_or_called_is_refused_in_one_line(
    reference: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Function(ObjectiveConfig(reference, "minimize", kwargs))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def drag(x:\n", "importing it raised SyntaxError: "),
        (
            "limit = 1 / 0\n",
            "importing it raised ZeroDivisionError: division by zero (broken_sim.py, line 1)",
        ),
        (
            "import sys\nsys.exit('usage: …')\n",
            "importing it raised SystemExit: usage: … (broken_sim.py, line 2)",
        ),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_told_in_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_sim.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError) as caught:
        Function(ObjectiveConfig("broken_sim:drag", "minimize"))
    assert str(caught.value).startswith(f"objective.function = 'broken_sim:drag': {message}")
    assert "\n" not in str(caught.value)


class Odd:
    """Raises whatever it is asked for."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("no numbers")


EXACT = {
    "a fraction": (fractions.Fraction(1, 3), 1 / 3),
    "a decimal": (decimal.Decimal("0.1"), 0.1),
    "an integer that int64 can't hold": (2**70, 2.0**70),
    "numpy's boolean": (np.bool_(True), 1.0),
    "half precision": (np.float16(0.1), float(np.float16(0.1))),
    "unsigned": (np.uint64(2**64 - 1), 2.0**64),
    "a tensor with a gradient": (torch.tensor(0.1, requires_grad=True), float(np.float32(0.1))),
    "a tensor of half precision": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    "an integer tensor": (torch.tensor(7), 7.0),
    "an axis less": (np.array(2.5), 2.5),
}
NO_NUMBERS = {
    "a decimal that is none": (decimal.Decimal("NaN"), "returned nan, expected a finite number"),
    "too large an integer": (10**400, "returned inf, expected a finite number"),
    "an endless integer": (10**5000, "returned inf, expected a finite number"),
    "too large a fraction": (fractions.Fraction(10**400), "returned inf, expected"),
    "numpy's complex number": (np.complex64(1), "returned np.complex64(1+0j) (complex64)"),
    "a complex tensor": (torch.tensor(1j), "returned tensor(0.+1.j) (Tensor), expected a number"),
    "a tensor with an axis": (torch.ones(3), "returned an array of shape (3,), expected one"),
    "a masked number": (np.ma.masked, "returned a masked array of shape ()"),
    "masked numbers": (
        np.ma.array([1.0, 2.0], mask=[0, 1]),
        "returned a masked array of shape (2,",
    ),
    "bytes": (b"1.0", "returned b'1.0' (bytes), expected a number"),
    "a date": (np.datetime64("2024-01-01"), "(datetime64), expected a number"),
    "a duration": (np.timedelta64(3, "s"), "(timedelta64), expected a number"),
    "a set": ({1.0}, "returned {1.0} (set), expected a number"),
    "a function": (np.sum, "(_ArrayFunctionDispatcher), expected a number"),
    "an object that raises": (Odd(), "returned a Odd, expected a number"),
    "nothing at all": ((), "returned an array of shape (0,), expected one number"),
    "texts of digits": (["1", "2"], "returned ['1', '2'] (list), expected a number"),
    "text in an array": (np.array(["1"]), "(ndarray), expected a number"),
    "objects in an array": (np.array([None]), "(ndarray), expected a number"),
}


def given_back(value: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Function:
    monkeypatch.setattr(user_functions, "norm", lambda x: value)
    return function("norm", **settings)


@pytest.mark.parametrize("what", EXACT)
def test_real_numbers_of_any_kind_are_taken_as_they_are(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, expected = EXACT[what]
    assert given_back(value, monkeypatch)(ONE, 0).tolist() == [expected]
    two = given_back([1, value], monkeypatch, values=("a", "b"))
    assert two(ONE, 0).tolist() == [1.0, expected]
    named = given_back({"b": value, "a": 1}, monkeypatch, values=("a", "b"))
    assert named(ONE, 0).tolist() == [1.0, expected]


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.filterwarnings("ignore:Warning. 'partition'")
def test_what_is_no_real_number_is_refused_whatever_it_is(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, message = NO_NUMBERS[what]
    with pytest.raises(EvaluationError) as caught:
        given_back(value, monkeypatch)(ONE, 0)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
    with pytest.raises(EvaluationError):
        given_back([1.0, value], monkeypatch, values=("a", "b"))(ONE, 0)


@pytest.mark.parametrize("error", [GeneratorExit(), BaseException("odd"), RecursionError()])
def test_whatever_a_function_raises_fails_the_member(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(x: Any) -> float:
        raise error

    monkeypatch.setattr(user_functions, "norm", raises)
    with pytest.raises(EvaluationError, match=rf"raised {type(error).__name__}"):
        function("norm")(ONE, 0)


def test_ctrl_c_in_a_function_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(x: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(user_functions, "norm", raises)
    with pytest.raises(KeyboardInterrupt):
        function("norm")(ONE, 0)
