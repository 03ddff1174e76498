"""The hosts that the other tests use are as separate as real ones, and none outlives its session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.hosts import Cluster, missing
from tests.helpers.shell import environment

pytestmark = [
    pytest.mark.usefixtures("hosts_can_be_made"),
    pytest.mark.xdist_group("hosts"),
]

HOSTS_OF_A_SESSION = """
import json, sys, time
from pathlib import Path
from tests.cluster.hosts import Cluster
with Cluster(Path(sys.argv[1])) as cluster:
    print(json.dumps([p for host in cluster.hosts for p in (host.first_process, host.switch)]), flush=True)
    time.sleep(60)
"""


def soon(holds: Callable[[], object]) -> bool:
    """Wait until something holds; whether it did within twenty seconds."""
    deadline = time.monotonic() + 20
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def name_of(process: int) -> str:
    """The program that it runs; empty if it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def test_shared_memory_is_of_one_host_and_of_the_size_asked_for(tmp_path: Path) -> None:
    name = f"esd-test-{os.getpid()}"
    with Cluster(tmp_path, shared_memory="3m") as cluster:
        first, second = cluster.hosts
        assert first.run("sh", "-c", f"head -c 2m /dev/zero >/dev/shm/{name}").returncode == 0
        assert first.run("ls", "/dev/shm").stdout.split() == [name]
        assert second.run("ls", "/dev/shm").stdout.split() == []
        too_much = second.run("sh", "-c", f"head -c 4m /dev/zero >/dev/shm/{name}")
        assert "No space left on device" in too_much.stderr
    assert not Path("/dev/shm", name).exists()


def test_a_process_is_found_on_its_own_host_alone(two_hosts: Cluster, tmp_path: Path) -> None:
    first, second = two_hosts.hosts
    with subprocess.Popen(second.command("sleep", "60.25", cwd=tmp_path)) as process:
        # only sleep itself: what comes before it has not asked yet to be killed with its parent
        assert soon(lambda: [p for p in second.processes("60.25") if name_of(p) == "sleep"])
        assert first.processes("60.25") == []
        process.kill()
    assert soon(lambda: not second.processes("60.25"))  # it dies with the one that started it


def test_a_cut_cable_carries_nothing_until_it_is_restored(two_hosts: Cluster) -> None:
    first, second = two_hosts.hosts
    words = ("timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{second.name}/22")

    def reaches() -> bool:
        return first.run(*words).returncode == 0

    assert soon(reaches)
    before = two_hosts.sent_bytes()
    second.cut()
    try:
        assert not reaches()
    finally:
        second.restore()
    assert soon(reaches)  # after some seconds: what has no answer is sent again ever more rarely
    assert two_hosts.sent_bytes() > before


def test_a_host_that_does_not_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.hosts.SSHD_CONFIG", "NoSuchWord yes\n")
    with pytest.raises(RuntimeError, match=r"node1 did not start: .*NoSuchWord"), Cluster(tmp_path):
        pass


def test_hosts_die_with_a_session_that_is_killed(tmp_path: Path) -> None:
    session = subprocess.Popen(
        [sys.executable, "-c", HOSTS_OF_A_SESSION, tmp_path],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert session.stdout is not None
    processes = json.loads(session.stdout.readline())
    assert all(Path(f"/proc/{process}").exists() for process in processes)
    session.kill()
    session.communicate()
    assert soon(lambda: not any(is_running(process) for process in processes))


def is_running(process: int) -> bool:
    """Whether a process is there, and not only waiting for its parent to hear of its end."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_what_is_missing_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.hosts.SEARCH", str(tmp_path))
    assert "ssh-keygen, sshd, unshare: apt-get install" in missing()
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert "root" in missing()
