"""The Dockerfile, built for real and run on the terms of other people's orchestrators (see ``images.py``)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import esd as package
from tests.container.images import Container, Image, require_tools, run
from tests.helpers.shell import REPOSITORY, TINY, esd, messages

SOMEBODY = (12345, 54321)  # a user whom no file of the image knows, as OpenShift makes them up
LARGEST_MB = 700
PAGE = REPOSITORY / "docs" / "launch" / "containers.md"
# 9,998,240 coordinates of h, 40 MB each time that h is held
LARGE = (
    "pendulum", "policy.kind=static", "policy.hidden=[3160,3160]", "population=4", "generations=1",
    "env.max_steps=3", "run.center_every=0",
)  # fmt: skip

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("container")]


def settings(*words: str) -> list[str]:
    """Settings as words of a command; the first word is the experiment, unless it is a setting."""
    return [word if "=" not in word or word.startswith("--") else f"--set={word}" for word in words]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image."""
    require_tools()
    folder = tmp_path_factory.mktemp("image")
    made = None
    try:
        made = Image(folder)
        yield made
    finally:
        if made is not None:
            made.remove()


@pytest.fixture(scope="module")
def h_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of h that the same training has outside of a container."""
    done = esd("train", *TINY, "--json", cwd=tmp_path_factory.mktemp("here"))
    return str(json.loads(done.stdout)["h_sha256"])


def h_of(done: subprocess.CompletedProcess[str]) -> str:
    """The hash of h that a training prints."""
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["h_sha256"])


def test_the_image_says_what_it_is(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == "esd"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"] == "tested"
    assert labels["esd.variant"] == "cpu"
    assert image.config["User"] == "1000:1000"
    done = image.run(*image.config["Cmd"])
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_the_image_is_no_larger_than_its_page_says_and_without_torch(image: Image) -> None:
    """The figure is of the same command that the page shows, on a base that is a little larger than Debian's slim."""
    megabytes = int(run("du", "-smx", image.root).split()[0])
    assert megabytes < LARGEST_MB
    assert f"{LARGEST_MB} MB" in PAGE.read_text("utf-8")
    assert not list(image.root.glob("opt/esd/lib/python3*/site-packages/torch"))


def test_the_packages_in_the_image_are_listed_in_its_bill_of_materials(image: Image) -> None:
    bill = json.loads(image.run("cat", "/opt/esd/sbom.cdx.json").stdout)
    assert bill["bomFormat"] == "CycloneDX"
    listed = {part["name"].lower(): part["version"] for part in bill["components"]}
    installed = json.loads(image.run("pip", "list", "--format=json").stdout)
    assert len(installed) > 15
    assert {part["name"].lower(): part["version"] for part in installed}.items() <= listed.items()
    assert listed["esd-mpi"] == package.__version__


@pytest.mark.parametrize("user", [None, SOMEBODY, (0, 0)], ids=["image", "somebody", "root"])
def test_two_ranks_train_to_the_same_h_and_the_run_is_evaluated_and_shown(
    image: Image, user: tuple[int, int] | None, h_here: str, tmp_path: Path
) -> None:
    """On a read-only root without HOME, with 64 MB of /dev/shm and no capability."""
    terms = {"user": user, "work": tmp_path / "work"}
    words = ("train", *TINY, "--json", "--run", "runs/a")
    assert h_of(image.run("mpirun", "-n", "2", "--oversubscribe", "esd", *words, **terms)) == h_here
    launched = ("env", "-u", "HOME", "esd", "launch", "-n", "2", *words[:-1], "runs/b")
    assert h_of(image.run(*launched, **terms)) == h_here
    for command in (("eval", "runs/a", "--episodes=2", "--json"), ("show", "runs/a", "--json")):
        shown = image.run("esd", *command, **terms)
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)


def test_on_the_processor_of_the_build_nothing_is_compiled_and_the_doctor_is_content(
    image: Image, tmp_path: Path
) -> None:
    """Even where no folder is writable but the one for runs."""
    done = image.run("esd", "doctor", "--json", user=SOMEBODY, work=tmp_path / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in (
        "mpirun",
        "lost ranks",
        "kernel cache",
        "shared memory",
        "HOME",
        "temporary files",
    ):
        assert checks[name]["state"] == "ok", checks[name]
    kept = "from esd.kernels import COMPILER; print(*COMPILER.folder.readable)"
    kernels = image.run("python", "-c", kept, user=SOMEBODY).stdout
    assert "/opt/esd/" in kernels


def test_kernels_for_another_processor_are_kept_with_the_runs(
    image: Image, h_here: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    words = ("env", "NUMBA_CPU_NAME=x86-64-v2", "NUMBA_CPU_FEATURES=", "esd", "train", *TINY)
    assert h_of(image.run(*words, "--json", "--run=a", user=SOMEBODY, work=work)) == h_here
    kept = {path: path.stat().st_mtime_ns for path in (work / ".cache").rglob("*.kernel")}
    assert kept
    assert h_of(image.run(*words, "--json", "--run=b", user=SOMEBODY, work=work)) == h_here
    assert {path: path.stat().st_mtime_ns for path in (work / ".cache").rglob("*.kernel")} == kept


def test_an_h_of_ten_million_coordinates_fits_beside_64_mb_of_shared_memory(
    image: Image, tmp_path: Path
) -> None:
    words = ("mpirun", "-n", "2", "--oversubscribe", "esd", "train", *settings(*LARGE), "--json")
    h_of(image.run(*words, work=tmp_path / "work"))
    largest = max(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert largest > 39_900_000


@pytest.mark.parametrize(
    ("terms", "hidden", "told"),
    [
        ({"shared_memory": "16m"}, 8, "--shm-size=64m"),
        ({"memory": 300_000_000}, 8000, "memory"),
    ],
    ids=["shm", "memory"],
)
def test_what_does_not_fit_is_said_in_one_line(
    image: Image, terms: dict[str, Any], hidden: int, told: str, tmp_path: Path
) -> None:
    train = settings(*LARGE, f"policy.hidden=[{hidden},{hidden}]")
    start = ("mpirun", "-n", "2", "--oversubscribe", "esd", "train")
    done = image.run(*start, *train, work=tmp_path / "work", **terms)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = messages(done.stderr.splitlines())
    assert told in line
    assert "Traceback" not in done.stderr


def test_a_launch_without_a_folder_for_temporary_files_is_refused_in_one_line(
    image: Image, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    words = ("esd", "launch", "-n", "2", "train", "--run", "/runs/a")
    done = image.run(*words, temporary=False, user=SOMEBODY, mounts={"/runs": runs})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--tmpfs /tmp" in done.stderr


def of_compose() -> tuple[list[str], list[str], dict[str, str]]:
    """How launch/compose.yaml starts host and launcher, the latter without the settings and the comparison."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install -e '.[test]'")
    services = yaml.safe_load((REPOSITORY / "launch" / "compose.yaml").read_text())["services"]
    (line,) = re.findall(r"(esd launch .*?) train", services["launcher"]["command"][-1])
    return services["worker"]["command"], line.split(), {}


def of_operator() -> tuple[list[str], list[str], dict[str, str]]:
    """How the MPI operator starts the pods of launch/kubernetes/mpijob.yaml, with the variables that it sets."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install -e '.[test]'")
    file = REPOSITORY / "launch" / "kubernetes" / "mpijob.yaml"
    (job,) = (m for m in yaml.safe_load_all(file.read_text()) if m["kind"] == "MPIJob")
    worker, launcher = (
        job["spec"]["mpiReplicaSpecs"][name]["template"]["spec"]["containers"][0]["command"]
        for name in ("Worker", "Launcher")
    )
    variables = {
        "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
        "OMPI_MCA_orte_default_hostfile": "/etc/mpi/hostfile",
        "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
        "OMPI_MCA_orte_set_default_slots": "1",
    }
    return worker, launcher[: launcher.index("train")], variables


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (of_compose, ["launcher", "worker"]),
        (of_operator, ["esd-cartpole-launcher", "esd-cartpole-worker-0"]),
    ],
    ids=["compose", "operator"],
)
def test_containers_of_two_hosts_are_one_job(
    image: Image,
    h_here: str,
    of: Callable[[], tuple[list[str], list[str], dict[str, str]]],
    names: list[str],
    tmp_path: Path,
) -> None:
    """As launch/compose.yaml and the MPI operator start them: one runs sshd, the other the launcher and a rank."""
    host, launch, variables = of()
    keys = tmp_path / "keys"
    keys.mkdir()
    run("ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-N", "", "-f", keys / "id_rsa")
    shutil.copy(keys / "id_rsa.pub", keys / "authorized_keys")
    for path in keys.iterdir():
        path.chmod(0o644)  # of root, as a secret is mounted
    full = [f"{name}.esd-cartpole.default.svc" for name in names]
    known = tmp_path / "known"
    known.write_text(
        "127.0.0.1 localhost\n"
        + "".join(f"10.78.0.{i} {full[i - 1]} {names[i - 1]}\n" for i in (1, 2))
    )
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{name} slots=1\n" for name in full))
    mounts = {"/home/esd/.ssh": keys, "/etc/hosts": known, "/etc/mpi/hostfile": hostfile}
    launcher, worker = (
        image.container(mounts=mounts, work=tmp_path / name, hostname=name, variables=variables)
        for name in names
    )
    try:
        first, second = launcher.start("sleep", "600"), worker.start(*host)
        connect(first, second)
        done = launcher.execute(*launch, "train", *TINY, "--json", "--run=runs/apart")
        assert h_of(done) == h_here, worker.log()
        assert "worker" in done.stderr.splitlines()[0]
        assert "Accepted publickey" in worker.log()
    finally:
        end(launcher, worker)


def connect(first: int, second: int) -> None:
    """Put a cable between the network namespaces of two processes."""
    peer = ("type", "veth", "peer", "name", "eth0", "netns", str(second))
    run("ip", "link", "add", "eth0", "netns", str(first), *peer)
    for number, process in enumerate((first, second), 1):
        inside = ("nsenter", f"--target={process}", "--net", "ip")
        run(*inside, "address", "add", f"10.78.0.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*inside, "link", "set", device, "up")


def end(*containers: Container) -> None:
    """End containers that run in the background."""
    for container in containers:
        container.kill()


def commands_of(page: Path) -> list[str]:
    """The lines of a page's shell examples, without what only a Docker engine can do."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


def test_what_the_page_runs_in_a_container_works_here(image: Image, tmp_path: Path) -> None:
    """The commands after ``docker run … esd``: the engine is not here, but what it would start is."""
    started = [line for line in commands_of(PAGE) if re.match(r"docker run .* esd \S", line)]
    assert len(started) >= 4
    for line in started:
        command = line.partition(" esd ")[2].partition(">")[0].split()
        user, work = (SOMEBODY, "theirs") if "--user" in line else (None, "work")
        read_only = "--read-only" in line
        done = image.run(*command, user=user, read_only=read_only, work=tmp_path / work)
        assert done.returncode == 0, line + done.stdout + done.stderr
