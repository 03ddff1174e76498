"""Functions that a user might bring as objectives, good and bad."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

CALLS = itertools.count()
NOT_A_FUNCTION = 3.0
SEEN: list[Any] = []


def norm(x: np.ndarray) -> float:
    return float(np.sum(x**2))


def seen(x: Any, **kwargs: Any) -> float:
    """Keeps what it got."""
    SEEN.append((x, kwargs))
    return 1.0


def seeded(x: np.ndarray, seed: int) -> float:
    return norm(x) + np.random.default_rng(seed).standard_normal()


def luck(x: np.ndarray, seed: int) -> float:
    """Says nothing about its parameters."""
    return float(np.random.default_rng(seed).standard_normal())


def returns_the_seed(x: np.ndarray, seed: int) -> float:
    return float(seed)


def global_noise(x: np.ndarray) -> float:
    return norm(x) + random.random() + np.random.random()  # noqa: NPY002


def with_arguments(x: np.ndarray, *, scale: float, seed: int = 0) -> float:
    return scale * norm(x)


def two_arrays(arrays: dict[str, Any]) -> float:
    return float(np.sum(arrays["a"])) + 10.0 * arrays["b"]


def scribbles(x: np.ndarray) -> float:
    """Changes the array that it gets."""
    value = norm(x)
    x += 1.0
    return value


def several(x: np.ndarray, seed: int) -> tuple[float, float]:
    return norm(x), norm(x - 1.0)


def several_named(x: np.ndarray) -> dict[str, float]:
    return {"b": norm(x - 1.0), "a": norm(x)}


def impure(x: np.ndarray) -> float:
    return float(next(CALLS))


def returns(x: Any, what: str) -> Any:
    """What no objective should return, by name."""
    return {
        "text": "12",
        "none": None,
        "nan": float("nan"),
        "inf": np.float32("-inf"),
        "complex": 1j,
        "array": np.zeros(3),
        "one in an array": np.zeros(1),
        "ragged": [[1.0], [1.0, 2.0]],
        "dict": {"a": 1.0},
        "other keys": {"a": 1.0, "c": 2.0},
        "nan among two": [1.0, float("nan")],
        "integer": 3,
        "boolean": True,
        "numpy scalar": np.float32(0.5),
        "array without axes": np.array(2.0),
        "two": (1, 2.0),
        "named": {"b": 2.0, "a": 1},
    }[what]


def raises(x: Any) -> float:
    raise ZeroDivisionError("the wing\nbroke")


def exits(x: Any) -> float:
    sys.exit(3)


def fails_above(x: np.ndarray, limit: float = 0.5, how: str = "raise") -> float:
    """Fails for some members: those whose first number is above a limit."""
    if x.reshape(-1)[0] > limit:
        if how == "raise":
            raise ValueError(f"x is {x.reshape(-1)[0]:.1f}")
        if how == "sleep":
            time.sleep(60.0)
        return float("nan")
    return norm(x)


def sleeps(x: Any) -> float:
    time.sleep(60.0)
    return 0.0


def loops_and_swallows(x: Any) -> float:
    """Never ends by itself, and swallows what can be swallowed by the usual handler."""
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def swallows_everything_once(x: Any) -> float:
    """Swallows the first interruption, whatever it is."""
    try:
        time.sleep(60.0)
    except BaseException:
        time.sleep(60.0)
    return 0.0


def program(x: np.ndarray) -> float:
    """An external program."""
    script = "import sys; print(sum(float(v) ** 2 for v in sys.argv[1:]))"
    words = [sys.executable, "-S", "-c", script, *map(repr, x.tolist())]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def hangs_in_a_program(x: Any) -> float:
    subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(60)"], check=True)
    return 0.0


def changes_directory(x: Any, to: str) -> float:
    """Goes elsewhere, and says whether it was there before."""
    came_from = Path.cwd()
    os.chdir(to)
    return float(came_from == Path(to))


async def asynchronous(x: Any) -> float:
    return 0.0


class Model:
    """A class: calling it makes an object, which is no number."""

    def __init__(self, x: Any) -> None:
        self.x = x


BEST: list[float] = []
KEPT: dict[str, float] = {}


def best_so_far(x: np.ndarray) -> float:
    """Keeps the best value of all calls in a global variable."""
    BEST.append(norm(x))
    return min(BEST)


def centered(x: np.ndarray) -> float:
    """Subtracts the value of the call before."""
    value, KEPT["value"] = norm(x) - KEPT.get("value", 0.0), norm(x)
    return value


def changes_its_arguments(x: np.ndarray, offsets: list[Any]) -> float:
    """Changes the keyword arguments that it gets."""
    offsets.append(1.0)
    offsets[0].append(1.0)
    return norm(x) + len(offsets) + len(offsets[0])


def fails_elsewhere(x: np.ndarray) -> float:
    """Is pure, and fails wherever the first number is not that of h_0."""
    if x.reshape(-1)[0] != KEPT.setdefault("first", float(x.reshape(-1)[0])):
        raise ValueError("diverged")
    return norm(x)


def raises_after_others(x: np.ndarray) -> float:
    """Works only once."""
    KEPT["calls"] = KEPT.get("calls", 0.0) + 1.0
    if KEPT["calls"] > 1.0:
        raise RuntimeError("the licence is in use")
    return norm(x)


def constant(x: Any) -> float:
    """No matter what."""
    return 3.0


def needle(x: np.ndarray) -> float:
    """1 in a small part of the space, 0 elsewhere."""
    return float(x[0] < 0.4)


def signals_once(x: Any, number: int) -> float:
    """Send a signal to its own process in the first call."""
    if not signalled:
        signalled.append(number)
        signal.raise_signal(signal.Signals(number))
    return float(np.sum(np.square(x)))


signalled: list[int] = []


def holds_the_lock(x: np.ndarray) -> float:
    """Waits in C with the interpreter lock, once, on the last of two ranks."""
    if os.environ.get("OMPI_COMM_WORLD_RANK") == "1" and next(CALLS) == 0:
        ctypes.PyDLL(None).usleep(15_000_000)
    return norm(x)


def huge(x: np.ndarray) -> float:
    """Numbers whose sum is larger than any."""
    return 1.7e308 + 1e306 * math.tanh(float(x.sum()))
