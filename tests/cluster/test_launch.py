"""``esd launch`` on two hosts: ranks that are lost on one of them, and a host that is lost as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.hosts import Cluster
from tests.cluster.test_faults import ranks_of
from tests.faults import runs
from tests.helpers.shell import environment, wait_for_generations

pytestmark = [
    pytest.mark.usefixtures("hosts_can_be_made"),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.timeout(280),
]
LONG = "--set=generations=1500"


def launch(cluster: Cluster, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a training on all hosts, two ranks on each, and wait until it is under way."""
    places = ",".join(f"{host.name}:2" for host in cluster.hosts)
    mpirun = ("--bind-to", "none", "--mca", "plm_ssh_agent", cluster.ssh, "-x", "PYTHONPATH")
    words = [
        sys.executable, "-m", "esd", "launch", "-n", "4", "--hosts", places, *options, "--", *mpirun,
        "train", "--run", str(folder / "run"), *runs.EXPERIMENT, LONG,
    ]  # fmt: skip
    process = subprocess.Popen(
        cluster.hosts[0].command(*words, cwd=folder),
        env=environment(TMPDIR="/run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_generations(folder / "run", 20)
    return process


def wait_for_ranks(folder: Path, count: int) -> None:
    """Wait until so many ranks have gone on: for two generations of them.

    The first one may be written while they still recover: it is the one that was interrupted.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        whole = (folder / "run/metrics.jsonl").read_text().rpartition("\n")[0]
        lines = whole.splitlines()[-2:]
        if [json.loads(line)["ranks"] for line in lines] == [count, count]:
            return
        time.sleep(0.01)
    raise TimeoutError(f"no two generations of {count} ranks")


def check(process: subprocess.Popen[str], folder: Path) -> tuple[str, list[str]]:
    """Wait for the end, compare, and give what was said, and the events."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, output + errors
    found = runs.of_folder(folder / "run")
    assert found.journal == runs.reference(LONG).journal
    assert found.h_sha256 == runs.reference(LONG).h_sha256
    lines = (folder / "run/launches.jsonl").read_text().splitlines()
    return output, [json.loads(line)["event"] for line in lines]


def test_ranks_lost_on_both_hosts_are_survived_in_the_same_job(
    two_hosts: Cluster, tmp_path: Path
) -> None:
    process = launch(two_hosts, tmp_path, "--fault-tolerant", "--max-restarts=0")
    first, second = (ranks_of(host, tmp_path) for host in two_hosts.hosts)
    assert len(second) == 2
    os.kill(second[0], signal.SIGKILL)
    wait_for_ranks(tmp_path, 3)
    # the supervisor and mpirun have the run in their words, too
    ranks = [p for p in first if b"--hosts" not in Path(f"/proc/{p}/cmdline").read_bytes()]
    os.kill(ranks[-1], signal.SIGKILL)
    wait_for_ranks(tmp_path, 2)
    output, events = check(process, tmp_path)
    assert output.count("lost 1 of ") == 2, output
    assert events == ["started", "done"]


def test_a_lost_host_is_left_out_of_the_restart(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    with Cluster(tmp_path / "hosts") as cluster:
        process = launch(cluster, tmp_path)
        os.kill(cluster.hosts[1].first_process, signal.SIGKILL)  # and with it all that runs there
        _, events = check(process, tmp_path)
        assert events == ["started", "restart", "host-lost", "restarted", "done"]


def test_a_host_behind_a_cut_cable_is_noticed_and_left_out(tmp_path: Path) -> None:
    """Nobody tells mpirun: its connection stays open, and its ranks would wait for the deadline."""
    (tmp_path / "hosts").mkdir()
    with Cluster(tmp_path / "hosts") as cluster:
        process = launch(cluster, tmp_path)
        cluster.hosts[1].cut()
        _, events = check(process, tmp_path)
        assert events == ["started", "restart", "host-lost", "restarted", "done"]
