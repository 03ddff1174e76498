"""What an algorithm or optimizer of a user's own may not do, found before a run."""

from __future__ import annotations

import contextlib

import pytest

from esd.config.settings import Config
from esd.config.tables import parse
from esd.errors import RunError
from esd.evolution.layout import Layout
from esd.evolution.repeatable import check_repeatable
from esd.evolution.state import make_strategy

BAD = "tests.helpers.bad_algorithms"


def checked(**es: str) -> Config:
    """A config whose algorithm was tried."""
    config = parse({"population": 8, "es": es}, "test")
    check_repeatable(config, make_strategy(config, Layout({"x": (3,)})))
    return config


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("optimizer", "Draws", "step gave two different results for the same gradient, moments and numbers"),
        ("optimizer", "KeepsMoments", "step gave two different results for the same gradient"),
        ("optimizer", "OwnNorm", "step gave other results for a part of h than for all of it"),
        ("optimizer", "CountsCoordinates", "step gave other results for a part of h than for all of it"),
        ("optimizer", "NeedsCoordinates", "step raised ValueError: zero-size array"),
        ("algorithm", "DRAWS_UPDATE", "update gave two different results for the same state and numbers"),
        ("algorithm", "REMEMBERS_MEMBERS", "perturb gave two different results for the same state"),
        ("algorithm", "FORGETS_START", "perturb gave other coordinates of a member for a part of h"),
        ("algorithm", "OWN_MEAN", "update gave other results for a part of h than for all of it"),
        ("algorithm", "OTHER_SUMS", "update gave other results for a part of h than for all of it"),
        ("algorithm", "CHANGES_STATE", "update changes the state that it is given"),
    ],
)  # fmt: skip
def test_what_does_not_give_the_same_to_everybody_is_refused(
    setting: str, name: str, message: str
) -> None:
    with pytest.raises(RunError) as caught:
        checked(**{setting: f"{BAD}:{name}"})
    assert str(caught.value).startswith(f"es.{setting} = '{BAD}:{name}': {message}")


def test_a_run_that_goes_on_is_not_tried_in_parts() -> None:
    for name in ("OWN_MEAN", "DRAWS_UPDATE"):
        config = parse({"population": 8, "es": {"algorithm": f"{BAD}:{name}"}}, "test")
        algorithm = make_strategy(config, Layout({"x": (3,)}))
        expected = pytest.raises(RunError) if name == "DRAWS_UPDATE" else contextlib.nullcontext()
        with expected:
            check_repeatable(config, algorithm, parts=False)


@pytest.mark.parametrize("algorithm", ["openai_es", "pgpe"])
def test_right_ones_pass(algorithm: str) -> None:
    checked(algorithm=algorithm, optimizer=f"{BAD}:Heavy")
    checked(algorithm=f"{BAD}:CLIMB")


@pytest.mark.parametrize("es", [{"algorithm": f"{BAD}:RAISES_IN_UPDATE"}, {"optimizer": "sgd"}])
def test_what_can_not_be_tried_is_left_to_the_run(es: dict[str, str]) -> None:
    checked(**es)
