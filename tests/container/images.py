"""An image built without a Docker engine, and containers of it run without one: by buildah and runc, as root.

No image is fetched: debootstrap makes the base image, under the name that the Dockerfile asks for. runc is what Docker
and Kubernetes start containers with; here it gets their terms: a read-only root, any user, 64 MB of /dev/shm, limits.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers.shell import REPOSITORY

BASE = "docker.io/library/debian:bookworm-slim"
TOOLS = ("buildah", "debootstrap", "ip", "nsenter", "runc", "ssh-keygen")
INSTALL = "apt-get install --no-install-recommends buildah debootstrap iproute2 openssh-client runc"


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
            "builds an image, which takes minutes and gigabytes; as root, after "
            f"`{INSTALL}`: ESD_TEST_CONTAINER=1 launch/test.sh"
        )
    if os.getuid() != 0:
        pytest.fail("ESD_TEST_CONTAINER=1, but debootstrap, buildah and runc need root here")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"ESD_TEST_CONTAINER=1, but {' and '.join(missing)} is missing: {INSTALL}")


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


class Image:
    """The repository's image, for as long as its folder is there.

    Args:
        folder: an empty one, for everything.

    Attributes:
        root: its file system.
        config: what it says of itself: Env, Labels, User, WorkingDir, Cmd.
    """

    def __init__(self, folder: Path) -> None:
        """Build it."""
        self.folder, self._containers = folder, 0
        base = self._buildah("from", "scratch")
        run("debootstrap", "--variant=minbase", "bookworm", self._buildah("mount", base))
        self._buildah("commit", "--rm", base, BASE)
        arguments = ("--build-arg=REVISION=tested", *volumes_for_pip(folder))
        self._buildah("bud", "--pull-never", "--tag=esd", *arguments, REPOSITORY)
        self._container = self._buildah("from", "--pull-never", "esd")
        self.root = Path(self._buildah("mount", self._container))
        described = json.loads(self._buildah("inspect", "--type=image", "esd"))
        self.config: dict[str, Any] = described["OCIv1"]["config"]

    def remove(self) -> None:
        """Unmount and delete it."""
        if hasattr(self, "_container"):
            self._buildah("umount", self._container)
        # Never delete through a mount that was left behind: it would be the host's own files.
        assert str(self.folder) not in Path("/proc/self/mounts").read_text()
        shutil.rmtree(self.folder)

    def _buildah(self, *arguments: str | Path) -> str:
        # Plain copies for storage and chroot for isolation work without any engine or privilege but root's.
        folder = self.folder
        storage = ("--storage-driver=vfs", f"--root={folder}/storage", f"--runroot={folder}/run")
        return run("buildah", *storage, *arguments, BUILDAH_ISOLATION="chroot").strip()

    def container(self, **terms: Any) -> Container:
        """A container that is not started yet; the terms are those of ``Container``."""
        self._containers += 1
        return Container(self, f"esd-test-{os.getpid()}-{self._containers}", **terms)

    def run(self, *command: str, **terms: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own, and wait for it."""
        return self.container(**terms).run(*command)


class Container:
    """A container of an image, with the terms that an orchestrator may set.

    Args:
        image: what to run.
        name: of the container, and its host name.
        user: its user and group; None for the image's.
        read_only: the root file system can't be written.
        shared_memory: the size of /dev/shm.
        temporary: there is a /tmp that can be written.
        memory: limit [bytes].
        work: a folder mounted at /work, which is made the user's.
        mounts: further folders and files, by where they are mounted.
        variables: further environment variables.
        hostname: what it calls itself, if not by the name.
    """

    def __init__(
        self,
        image: Image,
        name: str,
        user: tuple[int, int] | None = None,
        read_only: bool = True,
        shared_memory: str = "64m",
        temporary: bool = True,
        memory: int | None = None,
        work: Path | None = None,
        mounts: dict[str, Path] | None = None,
        variables: dict[str, str] | None = None,
        hostname: str = "",
    ) -> None:
        """Describe it; nothing is started."""
        self.name, self._image = name, image
        bundle = image.folder / name
        bundle.mkdir()
        run("runc", "spec", f"--bundle={bundle}")
        file = bundle / "config.json"
        spec = json.loads(file.read_text())
        uid, gid = user or tuple(map(int, image.config["User"].split(":")))
        own = [*image.config["Env"], *(f"{k}={v}" for k, v in (variables or {}).items())]
        # no capability at all, as Kubernetes' restricted profile has it
        spec["process"] |= {
            "terminal": False, "user": {"uid": uid, "gid": gid}, "env": own,
            "cwd": image.config["WorkingDir"], "rlimits": [], "noNewPrivileges": True,
            "capabilities": {key: [] for key in spec["process"]["capabilities"]},
        }  # fmt: skip
        spec["root"] = {"path": str(image.root), "readonly": read_only}
        spec["hostname"] = hostname or name
        (shm,) = (mount for mount in spec["mounts"] if mount["destination"] == "/dev/shm")
        shm["options"] = ["nosuid", "noexec", "nodev", "mode=1777", f"size={shared_memory}"]
        if temporary:
            options = ["nosuid", "nodev", "mode=1777", "size=64m"]
            tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options}
            spec["mounts"].append(tmp)
        mounted = dict(mounts or {})
        if work is not None:
            work.mkdir(exist_ok=True)
            os.chown(work, uid, gid)
            mounted["/work"] = work
        for place, source in mounted.items():
            bind = {"type": "bind", "source": str(source), "options": ["rbind", "rw"]}
            spec["mounts"].append({"destination": place, **bind})
        if memory is not None:
            spec["linux"]["resources"]["memory"] = {"limit": memory, "swap": memory}
        self._spec, self._file = spec, file

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, and wait until both have ended."""
        return self._runc("run", *self._bundle(command))

    def start(self, *command: str) -> int:
        """Start it in the background; the process id of its first process."""
        log = self._file.with_name("log").open("wb")
        with log:
            words = [*self._words, "run", "--detach", *self._bundle(command)]
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        return int(json.loads(run(*self._words, "state", self.name))["pid"])

    def log(self) -> str:
        """What it has printed in the background."""
        return self._file.with_name("log").read_text()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it while it runs in the background."""
        return self._runc("exec", self.name, *command)

    def kill(self) -> None:
        """End it."""
        self._runc("delete", "--force", self.name)

    @property
    def _words(self) -> list[str]:
        return ["runc", f"--root={self._image.folder}/runc"]

    def _bundle(self, command: Sequence[str]) -> list[str]:
        self._spec["process"]["args"] = list(command)
        self._file.write_text(json.dumps(self._spec))
        return [f"--bundle={self._file.parent}", self.name]

    def _runc(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._words, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )  # fmt: skip
