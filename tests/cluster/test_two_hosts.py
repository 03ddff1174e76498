"""esd on two hosts: they are two nodes, they compute the same h as one, and almost nothing crosses the wire."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.cluster.hosts import Cluster
from tests.commands.shell import TINY, command, esd

NODES = """
import os
from esd.mpi.comm import connect, gather
comm = connect()
with comm.node() as node:
    ranks = gather(node, comm.rank, "naming the node's ranks")
print(os.uname().nodename, comm.rank, *ranks, flush=True)
comm.close()
"""


def test_the_ranks_of_a_host_are_a_node(two_hosts: Cluster, tmp_path: Path) -> None:
    listed = two_hosts.run(sys.executable, "-c", NODES, cwd=tmp_path, ranks_per_host=2)
    assert listed.returncode == 0, listed.stderr
    assert sorted(listed.stdout.splitlines()) == [
        "node1 0 0 1",
        "node1 1 0 1",
        "node2 2 2 3",
        "node2 3 2 3",
    ]


def test_h_is_the_same_on_two_hosts_as_on_one(two_hosts: Cluster, tmp_path: Path) -> None:
    words = ("train", *TINY, "--json", "--run")
    apart = two_hosts.run(*command(*words, "apart"), cwd=tmp_path, ranks_per_host=2)
    assert apart.returncode == 0, apart.stderr
    alone = esd(*words, "alone", cwd=tmp_path)
    hashes = [json.loads(ended.stdout)["h_sha256"] for ended in (apart, alone)]
    assert hashes[0] == hashes[1]
