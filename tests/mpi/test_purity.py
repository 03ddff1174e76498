"""Law 1 on ranks: what is impure never begins to train, on any number of them, and one of them says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esd.mpi.comm import Communicator, JobFailedError
from tests.helpers.configs import of_table
from tests.helpers.training import trained

CART_POLE = {"id": "CartPole-v1"}
LEAKING = {"id": "tests.helpers.impure:Leaking-v0"}
IMPURE: dict[str, tuple[dict[str, Any], str]] = {
    "a stateful wrapper": (
        {"env": {**CART_POLE, "wrappers": ["gymnasium.wrappers:NormalizeObservation"]}},
        "set env.normalize_observations = true",
    ),
    "a module with a memory": (
        {"env": CART_POLE, "policy": {"kind": "tests.helpers.impure_policies:LongMemory"}},
        "a method reset() that clears it",
    ),
    "an environment that leaks": (
        {"env": {**LEAKING, "kwargs": {"leak": "ended"}}},
        'Set env.rebuild = "always"',
    ),
    "on one rank only": (
        {"env": {**LEAKING, "kwargs": {"leak": "last rank"}}},
        "the environment itself (Leaking)",
    ),
    "a constructor that draws": (
        {"env": {**LEAKING, "kwargs": {"leak": "constructor"}}},
        "repeated in a new object",
    ),
}


@pytest.mark.mpi
@pytest.mark.parametrize("case", IMPURE)
def test_what_is_impure_ends_on_all_ranks_with_one_reason(
    case: str, world: Communicator, folder: Path
) -> None:
    table, message = IMPURE[case]
    with pytest.raises(JobFailedError) as caught:
        trained(of_table(**table), folder / "run", world)
    reporting = world.size - 1 if case == "on one rank only" else 0
    cause = caught.value.__cause__
    assert (cause is not None) == (world.rank == reporting)
    if cause is not None:
        assert message in str(cause)
    by_name = (
        "a stateful wrapper",
        "a module with a memory",
    )  # wrong use, seen before it is played
    assert caught.value.exit_code == (2 if case in by_name else 1)
    assert not (folder / "run").exists()


@pytest.mark.mpi
@pytest.mark.parametrize("how", ["rank", "late rank"])
def test_ranks_that_differ_are_told_that_their_modules_do_not(
    how: str, world: Communicator, folder: Path
) -> None:
    """An environment that knows its rank is pure on each of them."""
    table = {"env": {"id": "tests.helpers.impure:Impure-v0", "kwargs": {"how": how}}}
    if world.size == 1:
        return
    with pytest.raises(JobFailedError) as caught:
        trained(of_table(**table), folder / "run", world)
    if caught.value.__cause__ is not None:
        text = str(caught.value.__cause__)
        assert "compute other bits than rank 0" in text
        assert "modules, package versions and processors are the same" in text
