"""Settings as Python values come out of ``key=value`` as they went in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import esd
from esd.api.settings import as_texts, by_dotted_name
from esd.config.assignments import parse_assignment
from esd.config.tables import apply_settings

# TOML has no surrogates; a float is compared by its bits below, as no NaN is itself
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = TEXTS | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    (text,) = as_texts({"env.kwargs": value})
    assert "\n" not in text
    keys, found = parse_assignment(text)
    assert keys == ["env", "kwargs"]
    assert repr(found) == repr(value)


BODY = {
    "id": "esd_envs:ChangedBody",
    "kwargs": {"scale": {"bshin": 0.5}, "mass": {"torso": 2.0}, "friction": 0.5, "gravity": 1.5},
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([{}, []], "[{}, []]"),
        ({"a b": 'c"d', "e-f": 1, "": 2.0}, '{"a b" = "c\\"d", e-f = 1, "" = 2.0}'),
        (
            [{"name": "other", "wrappers": [BODY]}],
            '[{name = "other", wrappers = [{id = "esd_envs:ChangedBody", kwargs = {scale = {bshin = 0.5}, mass = '
            "{torso = 2.0}, friction = 0.5, gravity = 1.5}}]}]",
        ),
        ((np.int64(3), np.array([1.5, -np.inf]), True), "[3, [1.5, -inf], true]"),
        ("two\nlines", '"two\\nlines"'),
        (math.nan, "nan"),
    ],
)
def test_a_value_is_inline_however_long_it_is(value: Any, text: str) -> None:
    assert as_texts({"env.variants": value}) == [f"env.variants={text}"]


@pytest.mark.parametrize("value", [None, object(), {"a": [None]}, {3: 1}, [{"a": 1j}]])
def test_what_toml_does_not_have_is_refused_by_name(value: Any) -> None:
    with pytest.raises(esd.UsageError, match=r"env\.kwargs = .*: expected a string, a number"):
        as_texts({"env.kwargs": value})


def test_a_name_with_an_equals_sign_is_refused() -> None:
    with pytest.raises(esd.UsageError, match=r"'env\.kwargs\.a=b': expected .* without ="):
        as_texts(by_dotted_name({"env.kwargs": {"a=b": 1}}))


def test_an_empty_section_changes_nothing_and_an_empty_table_of_keywords_is_empty(
    tmp_path: Path,
) -> None:
    settings = {"env": {}, "policy": {}, "es": {"sigma": 0.3}, "run": {}, "population": 6}
    run = esd.train("cartpole", run=tmp_path / "a", generations=0, settings=settings, verbose=False)
    assert run.config.env.id == "CartPole-v1"
    assert run.config.es.sigma == 0.3
    body = {"name": "a body with wrappers", "wrappers": [BODY, {**BODY, "kwargs": {}}]}
    settings = {"env": {"id": "Pendulum-v1", "kwargs": {"g": 3.0}, "variants": [body]}}
    assert by_dotted_name(settings) == {
        "env.id": "Pendulum-v1", "env.kwargs.g": 3.0, "env.variants": [body],
    }  # fmt: skip
    assert as_texts(by_dotted_name({"env": {"kwargs": {}}})) == ["env.kwargs={}"]
    assert run.evaluate(episodes=1, settings={"env.kwargs": {}})["mean"] > 0
    with pytest.raises(esd.UsageError, match=r"seed = \{\}: expected"):
        esd.train("cartpole", run=tmp_path / "b", settings={"seed": {}})


@pytest.mark.parametrize(
    "settings",
    [{"env.kwargs": {"mass.torso": 2.0, "n": 3}}, {"env": {"kwargs": {"mass.torso": 2.0, "n": 3}}}],
)
def test_a_keyword_with_a_dot_is_one_name(settings: dict[str, Any]) -> None:
    (text,) = as_texts(by_dotted_name(settings))
    table = apply_settings({}, [text])
    assert table == {"env": {"kwargs": {"mass.torso": 2.0, "n": 3}}}
    assert by_dotted_name({"env": {"kwargs.n": 3}}) == {"env.kwargs.n": 3}
