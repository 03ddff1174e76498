"""``esd submit`` on a real SLURM of two nodes: hosts with a network, a name, memory and a slurmd of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Cluster
from tests.cluster.slurm import Slurm, missing
from tests.cluster.test_slurm import (
    EXPERIMENT,
    OBJECTIVE,
    hash_of,
    logs_of,
    submit,
    uninterrupted,
    wait_until_done,
)
from tests.helpers.shell import wait_for_generations

pytestmark = [pytest.mark.xdist_group("hosts"), pytest.mark.timeout(280)]


@pytest.fixture
def slurm(two_hosts: Cluster, tmp_path: Path) -> Iterator[Slurm]:
    """SLURM on two hosts; tests skip where it can't be started, and fail with ESD_TEST_SLURM=1."""
    reason = missing()
    if reason and os.environ.get("ESD_TEST_SLURM") == "1":
        pytest.fail(f"ESD_TEST_SLURM=1, but SLURM can't be started here: {reason}")
    if reason:
        pytest.skip(f"SLURM can't be started here: {reason}")
    (tmp_path / "slurm").mkdir()
    with Slurm(tmp_path / "slurm", two_hosts.hosts) as cluster:
        yield cluster


def test_a_node_lost_of_two_gives_the_job_back_and_the_run_ends_with_the_same_h(
    slurm: Slurm, tmp_path: Path
) -> None:
    """The other node's ranks notice before SLURM does, which is what the script has to allow for."""
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "my_function.py").write_text(OBJECTIVE)
    (folder / "mine.toml").write_text(EXPERIMENT)
    (folder / "slow").touch()
    words = ("mine.toml", "--nodes=2", "--ntasks-per-node=2", "--run=runs/two")
    answer = submit(slurm, folder, *words)
    wait_for_generations(folder / "runs/two", 3)
    (line, *_) = (folder / "runs/two/metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["ranks"] == 4
    slurm.kill_node("node2")
    slurm.wait_for(lambda: "queued again" in logs_of(answer, folder), "the loss to be noticed", 60)
    assert not (folder / "runs/two/DONE.json").exists()
    (folder / "slow").unlink()
    slurm.start_node("node2")
    wait_until_done(slurm, folder, "runs/two", answer)
    assert "start 2" in logs_of(answer, folder)
    assert hash_of(folder, "runs/two") == uninterrupted()
