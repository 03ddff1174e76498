"""esd on two hosts: they are two nodes, h is the same as on one, and only scalars cross the wire (laws 3 and 4)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.cluster.hosts import Cluster
from tests.helpers.shell import TINY, command, esd

pytestmark = pytest.mark.xdist_group("hosts")

NODES = """
import os
from esd.mpi.comm import connect, gather
comm = connect()
with comm.node() as node:
    ranks = gather(node, comm.rank, "naming the node's ranks")
print(os.uname().nodename, comm.rank, *ranks, flush=True)
comm.close(0)
"""
MEMORY = """
import mmap, os
from esd.mpi.comm import connect
from esd.mpi.shared import open_together
comm = connect()
with comm.node() as node:
    memory = mmap.mmap(open_together(node, 4), 4)
    memory[comm.rank] = 1
    comm.broadcast(b"", "all have written")
print(os.uname().nodename, *memory[:], flush=True)
comm.close(0)
"""
# Pendulum 3-n-n-1 without Hebbian coefficients; its returns are never equal, so every update changes h.
BARE = (
    "policy.kind=static", "es.optimizer=sgd", "env.episodes_per_member=1", "env.max_steps=3",
    "run.center_every=0", "run.checkpoint_every=1000",
)  # fmt: skip
SMALL, LARGE = "policy.hidden=[98,98]", "policy.hidden=[3160,3160]"  # |h| = 9,996 and 9,998,240
RECORD_BYTES = 48
# A generation's own: what else is in its message, and the headers of MPI, TCP, IP and Ethernet. Measured: 360 to 560.
OTHER_BYTES = 1000

BytesPerGeneration = Callable[[int, str], float]


def test_the_ranks_of_a_host_are_a_node(two_hosts: Cluster, tmp_path: Path) -> None:
    listed = two_hosts.run(sys.executable, "-c", NODES, cwd=tmp_path, ranks_per_host=2)
    assert listed.returncode == 0, listed.stderr
    assert sorted(listed.stdout.splitlines()) == [
        "node1 0 0 1",
        "node1 1 0 1",
        "node2 2 2 3",
        "node2 3 2 3",
    ]


def test_every_host_has_memory_of_its_own(two_hosts: Cluster, tmp_path: Path) -> None:
    listed = two_hosts.run(sys.executable, "-c", MEMORY, cwd=tmp_path, ranks_per_host=2)
    assert listed.returncode == 0, listed.stderr
    assert sorted(listed.stdout.splitlines()) == ["node1 1 1 0 0"] * 2 + ["node2 0 0 1 1"] * 2


def test_h_is_the_same_on_two_hosts_as_on_one(two_hosts: Cluster, tmp_path: Path) -> None:
    words = ("train", *TINY, "--json", "--run")
    apart = two_hosts.run(*command(*words, "apart"), cwd=tmp_path, ranks_per_host=2)
    assert apart.returncode == 0, apart.stderr
    alone = esd(*words, "alone", cwd=tmp_path)
    hashes = [json.loads(ended.stdout)["h_sha256"] for ended in (apart, alone)]
    assert hashes[0] == hashes[1]


@pytest.fixture(scope="module")
def bytes_per_generation(
    two_hosts: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> BytesPerGeneration:
    """What a generation of a population puts on the wire, for a network, with one rank per host.

    The kernel counts a whole job; one that makes no generation is subtracted. How the ranks are started depends on
    neither population nor network, so one such job does for all; its own bytes vary by some hundreds.
    """
    generations = 8

    def sent(*settings: str) -> int:
        folder = tmp_path_factory.mktemp("wire")
        words = [f"--set={setting}" for setting in (*BARE, *settings)]
        before = two_hosts.sent_bytes()
        trained = two_hosts.run(*command("train", "pendulum", "--run", "run", *words), cwd=folder)
        assert trained.returncode == 0, trained.stderr
        sizes = [file.stat().st_size for file in (folder / "run" / "checkpoints").iterdir()]
        assert (max(sizes) > 39_900_000) == (
            LARGE in settings
        )  # h is as large as it was meant to be
        return two_hosts.sent_bytes() - before

    @cache
    def measured(population: int, network: str) -> float:
        job = sent(network, f"population={population}", f"generations={generations}")
        return (job - launch()) / generations

    @cache
    def launch() -> int:
        return sent(SMALL, "generations=0")

    return measured


def test_a_generation_on_the_wire_does_not_depend_on_the_size_of_h(
    bytes_per_generation: BytesPerGeneration,
) -> None:
    population = 16
    small, large = (bytes_per_generation(population, network) for network in (SMALL, LARGE))
    # a few packets more or less are TCP's own; h itself would be hundreds of times as much
    assert large == pytest.approx(small, rel=0.3)
    records = 2 * population * RECORD_BYTES  # each host sends a table of them, and gets one
    assert records < min(small, large)
    assert max(small, large) < records + OTHER_BYTES


def test_a_generation_on_the_wire_grows_with_the_population(
    bytes_per_generation: BytesPerGeneration,
) -> None:
    few, many = (bytes_per_generation(population, SMALL) for population in (16, 1040))
    assert (many - few) / 1024 == pytest.approx(2 * RECORD_BYTES, rel=0.05)
