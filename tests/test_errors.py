"""What messages say of names that are not known."""

from __future__ import annotations

import pytest

from esd.errors import nearest


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("hebian", ["gru", "hebbian"], "did you mean 'hebbian'?"),
        ("x", ["hebbian", "gru"], "known: gru, hebbian"),
        ("x", ["none", "back foot, front shin"], "known: 'back foot, front shin', 'none'"),
    ],
)
def test_a_hint_names_what_is_near_or_else_all(word: str, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint
