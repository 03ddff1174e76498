"""A rank or a link that is lost on another host: the job ends, with a message, and leaves nothing running (law 5)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Cluster, Host
from tests.helpers.shell import command, messages, wait_for_generations

pytestmark = [
    pytest.mark.usefixtures("hosts_can_be_made"),
    pytest.mark.xdist_group("hosts"),
]


@contextlib.contextmanager
def training(cluster: Cluster, folder: Path, *settings: str) -> Iterator[subprocess.Popen[str]]:
    """An endless training on all hosts, two ranks on each, which is under way."""
    settings = ("--set=generations=100000", "--set=population=6", *settings)
    words = command("train", "--run", folder / "run", *settings)
    with cluster.start(*words, cwd=folder, ranks_per_host=2) as process:
        try:
            wait_for_generations(folder / "run", 2)
            yield process
        finally:
            process.kill()


def ranks_of(host: Host, folder: Path) -> list[int]:
    """Process ids of a training's ranks on a host; not of mpirun, which has the run in its words too."""
    found = []
    for process in host.processes(str(folder / "run")):
        with contextlib.suppress(OSError):  # gone meanwhile
            if b"--host" not in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                found.append(process)
    return found


def wait_until_gone(cluster: Cluster, folder: Path) -> None:
    """Wait until no rank of a training is left on any host."""
    deadline = time.monotonic() + 30
    while any(ranks_of(host, folder) for host in cluster.hosts) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [ranks_of(host, folder) for host in cluster.hosts] == [[], []]


def test_a_rank_killed_on_the_other_host_ends_the_job_on_both(
    two_hosts: Cluster, tmp_path: Path
) -> None:
    with training(two_hosts, tmp_path) as process:
        ranks = [ranks_of(host, tmp_path) for host in two_hosts.hosts]
        assert [len(of_host) for of_host in ranks] == [2, 2]
        os.kill(ranks[1][-1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        # whoever notices first tells it: mpirun of its child, or a rank of the lost connection
        assert "on node node2 exited on" in errors or "Socket closed" in errors
        wait_until_gone(two_hosts, tmp_path)


@pytest.mark.timeout(120)
def test_the_ranks_of_both_hosts_end_when_the_cable_is_cut_and_name_the_other_host(
    tmp_path: Path,
) -> None:
    """The ranks do; mpirun itself goes on waiting for its daemon at the other end."""
    (tmp_path / "hosts").mkdir()
    with (
        Cluster(tmp_path / "hosts") as cluster,
        training(cluster, tmp_path, "--set=run.silence_seconds=4") as process,
    ):
        cluster.hosts[1].cut()
        wait_until_gone(cluster, tmp_path)
        assert process.stderr is not None
        message = next(messages(process.stderr))
        assert "no rank on node2 has given a sign of life for 4 s" in message
        assert "run.silence_seconds" in message


def test_a_stopped_host_ends_the_job_and_is_named(two_hosts: Cluster, tmp_path: Path) -> None:
    with training(two_hosts, tmp_path, "--set=run.silence_seconds=4") as process:
        for rank in ranks_of(two_hosts.hosts[1], tmp_path):
            os.kill(rank, signal.SIGSTOP)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "no rank on node2 has given a sign of life for 4 s" in errors
        wait_until_gone(two_hosts, tmp_path)


def test_a_host_whose_ranks_work_for_longer_than_every_limit_is_waited_for(
    two_hosts: Cluster, tmp_path: Path
) -> None:
    """All ranks of the other one wait meanwhile."""
    limits = ("--set=run.silence_seconds=3", "--set=run.deadline_minutes=0.2")
    objective = "--set=objective.function=tests.helpers.user_functions:holds_the_lock"
    sizes = ("--set=population=4", "--set=generations=1", "--set=objective.check_at_start=false")
    words = command("train", "rosenbrock", objective, *sizes, *limits, "--run", tmp_path / "run")
    done = two_hosts.run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
