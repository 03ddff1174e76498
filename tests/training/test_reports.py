"""What a generation's line says of its time."""

from __future__ import annotations

import pytest

from esd.training.reports import Timing


def test_waiting_is_a_share_of_the_whole_generation() -> None:
    """Two ranks evaluate for 2 and 1 seconds; the update and the files take two seconds more, in which none waits."""
    assert Timing(2.0, 3.0, 2).idle_share(4.0) == pytest.approx(1.0 / 8.0)


def test_clocks_that_differ_a_little_never_give_less_than_none_or_more_than_all() -> None:
    assert Timing(2.0, 4.1, 2).idle_share(4.0) == 0.0
    assert Timing(2.0, 0.0, 2).idle_share(1.9) == 1.0
