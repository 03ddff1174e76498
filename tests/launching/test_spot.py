"""``launch/cloud/spot.sh`` with a stand-in for a cloud's metadata service: notice, stop, bucket, another machine."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.run import journal
from tests.helpers.shell import REPOSITORY, environment

SCRIPT = REPOSITORY / "launch/cloud/spot.sh"
pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: apt-get install curl"
)
OBJECTIVE = """
import os, time
def bowl(x):
    time.sleep(float(os.environ.get("SLOW", "0")))
    return float((x * x).sum())
"""
EXPERIMENT = """
generations = 12
population = 6
[objective]
function = "bowls:bowl"
direction = "minimize"
parameters.x = { shape = [6], initial = 0.5 }
"""
# what each cloud answers before and after a notice: path, header that it wants, and both answers
CLOUDS = {
    "aws": ("/latest/meta-data/spot/instance-action", None, '{"action": "terminate"}'),
    "gcp": ("/computeMetadata/v1/instance/preempted", "FALSE", "TRUE"),
    "azure": (
        "/metadata/scheduledevents?api-version=2020-07-01",
        '{"Events": []}',
        '{"Events": [{"EventType": "Preempt"}]}',
    ),
}  # fmt: skip


class Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata service of all three clouds."""

    going = False

    def log_message(self, format: str, *words: object) -> None:
        """Nothing."""

    def do_PUT(self) -> None:
        """AWS's token."""
        self._answer("token" if "X-aws-ec2-metadata-token-ttl-seconds" in self.headers else None)

    def do_GET(self) -> None:
        """What becomes of this machine."""
        cloud = next(cloud for cloud, (path, _, _) in CLOUDS.items() if path == self.path)
        _, before, after = CLOUDS[cloud]
        wanted = {
            "aws": self.headers.get("X-aws-ec2-metadata-token") == "token",
            "gcp": self.headers.get("Metadata-Flavor") == "Google",
            "azure": self.headers.get("Metadata") == "true",
        }
        self._answer((after if type(self).going else before) if wanted[cloud] else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())


@pytest.fixture
def service() -> Iterator[str]:
    """Its address."""
    Metadata.going = False
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def variables(service: str, **changes: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment(ESD_METADATA=service, ESD_POLL_SECONDS="0.1", PATH=path, **changes)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_s_notice_is_understood(cloud: str, service: str) -> None:
    def asked(address: str) -> int:
        words, given = ["bash", str(SCRIPT), "--notice"], variables(address, ESD_CLOUD=cloud)
        return subprocess.run(words, env=given, check=False, timeout=60).returncode

    assert asked(service) != 0
    Metadata.going = True
    assert asked(service) == 0
    assert asked("http://127.0.0.1:1") != 0  # no answer is no notice


def test_what_is_wrong_is_said_in_a_line() -> None:
    for words, given in ((["runs/x"], {}), (["a", "-", "true"], {"ESD_CLOUD": "other"})):
        done = subprocess.run(
            ["bash", str(SCRIPT), *words], env=environment(**given), capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "expected" in done.stderr


def test_a_training_is_stopped_in_time_and_goes_on_on_another_machine(
    service: str, tmp_path: Path
) -> None:
    (tmp_path / "bowls.py").write_text(OBJECTIVE)
    (tmp_path / "mine.toml").write_text(EXPERIMENT)

    def start(machine: str, **given: str) -> subprocess.Popen[str]:
        run = f"{machine}/run"  # a path on a disk of this machine's own
        words = [sys.executable, "-m", "esd", "train", "mine.toml", "--trust", "--run", run]
        return subprocess.Popen(
            ["bash", str(SCRIPT), run, "bucket", *words], cwd=tmp_path, env=variables(service, **given),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def generations(folder: str) -> int:
        with contextlib.suppress(Exception):  # it is being made
            return len(journal.scan(tmp_path / folder / "journal.bin", verify=False).positions)
        return 0

    first = start("first", SLOW="0.1", ESD_PUSH_SECONDS="1")
    end = time.monotonic() + 60
    while not generations("first/run") and first.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    Metadata.going = True
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 75, said
    assert "this machine will be taken away" in said
    done = generations("bucket")
    assert 0 < done == generations("first/run") < 12
    shutil.rmtree(tmp_path / "first")
    Metadata.going = False
    second = start("second")
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert f"at generation {done}" in said
    undisturbed = [sys.executable, "-m", "esd", "train", "mine.toml", "--run", "undisturbed"]
    subprocess.run(undisturbed, cwd=tmp_path, env=environment(), check=True, capture_output=True)

    def h(folder: str) -> str:
        return str(json.loads((tmp_path / folder / "DONE.json").read_text())["h_sha256"])

    assert h("bucket") == h("second/run") == h("undisturbed")


AWS = """#!/usr/bin/env bash
# a stand-in for a bucket in the folder bucket; BROKEN: how the network is
case "$1 $2" in
  "s3 ls")
    [ "$BROKEN" != listing ] || { echo "Could not connect to the endpoint URL" >&2; exit 255; }
    [ -n "$(ls -A bucket 2>/dev/null)" ] && ls bucket
    ;;
  "s3 sync")
    from=${4/s3:\\/\\/*/bucket} to=${5/s3:\\/\\/*/bucket}
    mkdir -p "$to"
    if [ "$BROKEN" = copying ]; then
      cp "$from/config.toml" "$to"; echo "No space left on device" >&2; exit 1
    fi
    cp -a "$from/." "$to"
    ;;
esac
"""


def test_what_is_in_the_bucket_is_not_replaced_where_it_could_not_be_restored(
    service: str, tmp_path: Path
) -> None:
    (tmp_path / "bowls.py").write_text(OBJECTIVE)
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aws").write_text(AWS)
    (tmp_path / "bin" / "aws").chmod(0o755)

    def call(run: str, bucket: str, **given: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "esd", "train", "mine.toml", "--trust", "--run", run]
        own = variables(service, ESD_CLOUD="none", **{"BROKEN": "", **given})
        own["PATH"] = f"{tmp_path}/bin{os.pathsep}{own['PATH']}"
        return subprocess.run(
            ["bash", str(SCRIPT), run, bucket, *words, "--set", "generations=2"], cwd=tmp_path, env=own,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    first = call("first/run", "s3://bucket/a")  # nothing is there yet
    assert first.returncode == 0, first.stderr
    good = {path.name: path.read_bytes() for path in (tmp_path / "bucket").glob("*.*")}
    assert "journal.bin" in good
    for how in ("listing", "copying"):
        done = call("second/run", "s3://bucket/a", BROKEN=how)
        assert done.returncode == 1
        assert "second/run could not be restored from s3://bucket/a" in done.stderr
        assert not (tmp_path / "second/run").exists()
        now = {path.name: path.read_bytes() for path in (tmp_path / "bucket").glob("*.*")}
        assert now == good
    done = call("second/run", "s3://bucket/a")
    assert done.returncode == 0
    assert "is finished" in done.stdout + done.stderr
    (tmp_path / "file").write_text("no folder")
    done = call("third/run", "file")
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == "no folder"
