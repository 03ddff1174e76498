"""The Dockerfile, built for real and run: without a Docker engine, by buildah, as root.

No image is fetched: debootstrap makes the base image, under the name that the Dockerfile asks for.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/debian:bookworm-slim"
TOOLS = ("buildah", "debootstrap")

Run = Callable[..., str]

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("container")]


def run(*command: str | Path, **variables: str) -> str:
    """Run a command with more environment variables; its stdout, or a failure with all it printed."""
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        text = " ".join(map(str, command))
        pytest.fail(f"{text}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def require_tools() -> None:
    """Skip unless these tests are asked for; once they are, anything missing is a failure."""
    if os.environ.get("ESD_TEST_CONTAINER") != "1":
        pytest.skip(
            "builds an image, which takes minutes and gigabytes; with root and `apt-get install "
            "--no-install-recommends buildah crun debootstrap` done: ESD_TEST_CONTAINER=1 launch/test.sh"
        )
    if os.getuid() != 0:
        pytest.fail(
            "ESD_TEST_CONTAINER=1, but debootstrap and buildah's chroot isolation need root"
        )
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(
            f"ESD_TEST_CONTAINER=1, but {' and '.join(missing)} is missing: "
            "apt-get install --no-install-recommends buildah crun debootstrap"
        )


def volumes_for_pip(folder: Path) -> list[str]:
    """What pip in the build needs to find what pip finds here: its settings, and the local files they name.

    Args:
        folder: where to write pip's settings for the build.

    Returns:
        Flags for buildah, all of them read-only mounts.
    """
    listing = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    listing.sort(key=lambda line: line.startswith(":env:"))  # the environment beats the files
    settings = {}
    volumes = [f"--volume={folder}/pip.conf:/etc/pip.conf:ro"]
    for line in listing:  # such as: global.find-links='/a file:///b'
        name, _, value = line.partition("=")
        words = ast.literal_eval(value).split()
        for i, word in enumerate(words):
            path = Path(unquote(urlsplit(word).path) if word.startswith("file:") else word)
            if word.startswith("file:") and path.exists():
                path = path.parent  # an index refers to files in a folder beside it
            if path.is_absolute() and path.is_dir():
                volumes.append(f"--volume={path}:{path}:ro")
            elif path.is_absolute() and path.exists():
                # A certificate: at its own place it would be in the way of the image's package of certificates.
                words[i] = f"/mnt/{path.name}"
                volumes.append(f"--volume={path}:{words[i]}:ro")
        settings[name.rpartition(".")[2]] = " ".join(words)
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return list(dict.fromkeys(volumes))


@pytest.fixture(scope="module")
def in_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run commands in a container of the built image, as its user and in its environment."""
    require_tools()
    folder = tmp_path_factory.mktemp("image")

    def buildah(*arguments: str | Path) -> str:
        # Plain copies for storage and chroot for isolation work without any engine or privilege but root's.
        storage = ("--storage-driver=vfs", f"--root={folder}/storage", f"--runroot={folder}/run")
        return run("buildah", *storage, *arguments, BUILDAH_ISOLATION="chroot").strip()

    try:
        base = buildah("from", "scratch")
        run("debootstrap", "--variant=minbase", "bookworm", buildah("mount", base))
        buildah("commit", "--rm", base, BASE)
        buildah("bud", "--pull-never", "--tag=esd", *volumes_for_pip(folder), REPOSITORY)
        container = buildah("from", "--pull-never", "esd")
        yield lambda *command: buildah("run", container, "--", *command)
    finally:
        # Never delete through a mount that was left behind: it would be the host's own files.
        assert str(folder) not in Path("/proc/self/mounts").read_text()
        shutil.rmtree(folder)


def test_help_is_shown_in_the_image(in_image: Run) -> None:
    assert "train" in in_image("esd", "--help")


def test_two_ranks_train_in_the_image(in_image: Run) -> None:
    settings = ("--set", "generations=2", "--set", "population=8")
    output = in_image("mpirun", "-n", "2", "esd", "train", *settings, "--json", "--run", "/tmp/x")
    result = json.loads(output)
    assert result["finished"]
    assert result["generation"] == 2
