"""An environment under watch is played by the seed alone, and crashes where it is told to."""

from __future__ import annotations

import numpy as np

from esd.doctor.recorded_episodes import WatchedEnvironment
from tests.helpers.configs import of_table


def player(how: str = "none") -> WatchedEnvironment:
    """One of an environment that is impure in a given way."""
    return WatchedEnvironment(
        of_table(env={"id": "tests.helpers.impure:Impure-v0", "kwargs": {"how": how}}).env, 30
    )


def test_an_exception_is_raised_between_the_lines_of_step() -> None:
    """Its first half was run, its second wasn't."""
    crashing = player("exception")
    crashing.play(1)
    crashing.crash(2, 3)
    unwrapped = crashing._environments._all[0]._environment.unwrapped  # type: ignore[attr-defined]
    assert unwrapped.steps == 4
    assert unwrapped.within == 1.0
    crashing.close()


def test_outputs_depend_on_the_seed_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    here, there = player(), player()
    one = here.play(1)
    np.random.seed(1)  # noqa: NPY002
    assert there.play(1) == one
    assert there.play(2) != one
    here.close()
    there.close()


def test_an_abandoned_episode_ends_where_it_is_left() -> None:
    left = player()
    left.abandon(1, 7)
    assert left.watch.episode_hash().steps == 7
    assert left.play(1).steps > 7
    left.close()
