"""Law 3: what crosses between ranks is O(population) and does not depend on |h|."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esd.mpi.comm import Alone
from tests.helpers.configs import objective, small
from tests.helpers.training import trained


class Counting(Alone):
    """Counts the bytes of every collective."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def sum(self, numbers: np.ndarray, what: str) -> None:
        """Count a sum."""
        self.bytes.append(numbers.nbytes)

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Count a broadcast."""
        if what != "planning":  # the plan is text: a config, and on resume the journal
            self.bytes.append(len(text))
        return text


def traffic(folder: Path, *settings: str) -> list[int]:
    """Bytes of every collective of a training."""
    comm = Counting()
    trained(small("cartpole", *settings), folder, comm)
    return comm.bytes


def test_traffic_does_not_depend_on_the_size_of_h(tmp_path: Path) -> None:
    small_h = traffic(tmp_path / "small", "policy.hidden=[2]")
    large_h = traffic(tmp_path / "large", "policy.hidden=[300, 200]")
    assert small_h == large_h
    assert max(small_h) < 2_000


def test_traffic_grows_with_the_population_alone(tmp_path: Path) -> None:
    sizes = [max(traffic(tmp_path / str(n), f"population={n}")) for n in (20, 120)]
    bytes_per_member = (sizes[1] - sizes[0]) / 100
    assert bytes_per_member == 6 * 8


def test_traffic_of_an_objective_does_not_depend_on_the_size_of_h(tmp_path: Path) -> None:
    bytes_of = {}
    for size in (3, 30_000):
        comm = Counting()
        trained(objective("sphere", x={"shape": [size]}), tmp_path / str(size), comm)
        bytes_of[size] = comm.bytes
    assert bytes_of[3] == bytes_of[30_000]
    assert max(bytes_of[3]) < 2_000
