"""Every setting of a built-in algorithm reaches it: with another value, a few updates give another state."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from esd.config.kinds import ALGORITHMS
from esd.config.tables import parse
from esd.evolution.layout import Layout
from esd.evolution.state import make_strategy

# of each setting: a value that is not its default, and what it needs beside it to have an effect
CHANGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "sigma": (0.3, {}),
    "sigma_decay": (0.5, {}),
    "sigma_min": (0.19, {"sigma": 0.2, "sigma_decay": 0.5}),
    "sigma_learning_rate": (0.37, {}),
    "sigma_max_change": (0.01, {"sigma_learning_rate": 5.0}),
    "learning_rate": (0.03, {}),
    "learning_rate_decay": (0.5, {}),
    "learning_rate_min": (0.09, {"learning_rate": 0.1, "learning_rate_decay": 0.1}),
    "optimizer": ("momentum", {}),
    "momentum": (0.5, {"optimizer": "momentum"}),
    "beta1": (0.5, {"optimizer": "adam"}),
    "beta2": (0.5, {"optimizer": "adam"}),
    "epsilon": (0.1, {"optimizer": "adam"}),
    "max_speed": (0.001, {"optimizer": "clipup"}),
    "weight_decay": (0.5, {}),
    "shaping": ("standardize", {}),
}
CASES = [
    (algorithm, name)
    for algorithm in ("openai_es", "pgpe", "snes", "cr_fm_nes")
    for name in CHANGED
    if name in {field.name for field in dataclasses.fields(ALGORITHMS.find(algorithm).settings)}
]


def digest(algorithm: str, settings: dict[str, Any]) -> str:
    """What an algorithm has kept after four updates with settings."""
    config = parse({"population": 8, "es": {"algorithm": algorithm, **settings}}, "test")
    strategy = make_strategy(config, Layout({"x": (30,)}))
    state = strategy.start(np.ones(30, np.float32))
    rng = np.random.default_rng(0)
    out = np.empty(30, np.float32)
    for _ in range(4):
        for member in range(8):
            strategy.ask(state, member, out)
        state = strategy.tell(state, rng.normal(size=8))
    kept = hashlib.sha256(b"".join(vector.tobytes() for vector in state.named().values()))
    return f"{kept.hexdigest()} {sorted(state.scalars.items())}"


@pytest.mark.parametrize(("algorithm", "name"), CASES)
def test_a_setting_of_an_algorithm_changes_what_it_does(algorithm: str, name: str) -> None:
    value, beside = CHANGED[name]
    assert digest(algorithm, {**beside, name: value}) != digest(algorithm, beside)


@pytest.mark.parametrize("algorithm", ["openai_es", "pgpe", "snes", "cr_fm_nes"])
def test_the_reduction_over_variants_reaches_every_algorithm(algorithm: str) -> None:
    table = {"population": 8, "es": {"algorithm": algorithm}, "variants": {"reduce": "min"}}
    assert make_strategy(parse(table, "test"), Layout({"x": (30,)})).reduction == "min"
