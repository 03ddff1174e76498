"""``esd submit`` and ``esd train`` under a real SLURM: the same h whatever the cluster does to the jobs."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import esd
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from tests.cluster.slurm import Slurm, missing
from tests.helpers import shell
from tests.helpers.shell import REPOSITORY, messages, own_processes, wait_for_generations

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(280)]

# as slow as a test needs it, without keeping a core busy
OBJECTIVE = """
import time
from pathlib import Path


def value(x):
    if Path("slow").exists():
        time.sleep(0.05)
    return float((x * x).sum())
"""
EXPERIMENT = """
seed = 3
generations = 40
population = 6

[objective]
function = "my_function:value"
direction = "minimize"

[objective.parameters.x]
shape = [8]
initial = 1.0
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """SLURM; tests skip where it can't be started, and fail with ESD_TEST_SLURM=1."""
    reason = missing()
    if reason and os.environ.get("ESD_TEST_SLURM") == "1":
        pytest.fail(f"ESD_TEST_SLURM=1, but SLURM can't be started here: {reason}")
    if reason:
        pytest.skip(f"SLURM can't be started here: {reason}")
    with Slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path, slurm: Slurm) -> Iterator[Path]:
    """A user's folder with an experiment in it; no job is left at the end."""
    (tmp_path / "my_function.py").write_text(OBJECTIVE)
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    (tmp_path / "slow").touch()
    yield tmp_path
    slurm.command("scancel", "--user=root")
    slurm.wait_for(lambda: not slurm.command("squeue", "-h").strip(), "jobs to end", 60)
    assert own_processes(str(tmp_path)) == []


def submit(slurm: Slurm, folder: Path, *words: str) -> dict[str, object]:
    """Submit; what --json says."""
    done = slurm.esd("submit", *words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def hash_of(folder: Path, run: str) -> str:
    """Of the h of a run that is done."""
    assert (folder / run / "DONE.json").exists(), run
    opened = RunFolder(folder / run, Trust.NEVER)
    state = opened.last_state(opened.config(), pytest.fail)
    return f"{state.generation} {state.h_sha256()}"


@functools.cache
def uninterrupted(*words: str) -> str:
    """The h of a training by one process that nobody disturbs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my_function.py").write_text(OBJECTIVE)
        (folder / "mine.toml").write_text(EXPERIMENT)
        trained = shell.esd("train", "mine.toml", *words, "--run", "reference", cwd=folder)
        assert trained.returncode == 0, trained.stderr
        return hash_of(folder, "reference")


def logs_of(answer: dict[str, object], folder: Path) -> str:
    """All that the jobs of a submission have printed."""
    place = folder / str(answer["folder"])
    return "\n".join(path.read_text(errors="replace") for path in sorted(place.glob("*.log")))


def wait_until_done(slurm: Slurm, folder: Path, run: str, answer: dict[str, object]) -> None:
    done = folder / run / "DONE.json"
    try:
        slurm.wait_for(done.exists, f"{run} to be done")
    except RuntimeError as error:
        raise AssertionError(f"{error}\n{logs_of(answer, folder)}") from error
    job = str(answer["job"])
    slurm.wait_for(
        lambda: set(slurm.state(job).split()) <= {"COMPLETED"}, f"{job} to end: {slurm.state(job)}"
    )


def test_before_the_time_limit_a_run_stops_is_queued_again_and_ends_with_the_same_h(
    slurm: Slurm, folder: Path
) -> None:
    # SLURM looks at limits twice a minute: the signal comes 10 to 40 s after the start
    answer = submit(
        slurm, folder, "mine.toml", "--ntasks-per-node=2", "--time=1", "--stop-before=20",
        "--run=runs/limit", "--set=generations=300",
    )  # fmt: skip
    job = str(answer["job"])
    slurm.wait_for(lambda: "queued again" in logs_of(answer, folder), "the time limit", 90)
    slurm.wait_for(lambda: slurm.state(job) == "PENDING", "the job to be queued")
    assert "stopped before the time limit" in logs_of(answer, folder)
    (folder / "slow").unlink()
    wait_until_done(slurm, folder, "runs/limit", answer)
    assert "start 2" in logs_of(answer, folder)
    assert hash_of(folder, "runs/limit") == uninterrupted("--set=generations=300")


def test_plain_srun_is_refused_with_the_fix(slurm: Slurm, folder: Path) -> None:
    train = (sys.executable, "-m", "esd", "train", "mine.toml", "--run")
    alone = slurm.run("srun", "--ntasks=2", *train, "plain", cwd=folder)
    assert alone.returncode == 2, alone.stderr
    ours = list(messages(alone.stderr.splitlines()))
    assert len(ours) == 1, alone.stderr
    assert "srun started 2 processes, but MPI sees 1" in ours[0]
    assert "srun --mpi=pmix" in ours[0]
    assert not (folder / "plain").exists()


def test_a_cancelled_job_is_not_queued_again_and_the_next_one_goes_on(
    slurm: Slurm, folder: Path
) -> None:
    run = 'it\'s a "run"\n of `$HOME`'
    words = ("mine.toml", "--ntasks-per-node=2", "--set=generations=300", f"--run={run}")
    answer = submit(slurm, folder, *words)
    job = str(answer["job"])
    wait_for_generations(folder / run, 3)
    again = slurm.esd("submit", *words, cwd=folder)
    assert again.returncode == 2
    assert f"scancel {job}" in again.stderr
    slurm.command("scancel", job)
    slurm.wait_for(lambda: slurm.state(job) == "CANCELLED", "the job to end", 30)
    time.sleep(1)
    assert slurm.state(job) == "CANCELLED"
    assert "cancelled" in slurm.esd("show", ".", cwd=folder).stdout
    (folder / "slow").unlink()
    goes_on = submit(slurm, folder, *words, "--launcher=mpirun")
    wait_until_done(slurm, folder, run, goes_on)
    assert hash_of(folder, run) == uninterrupted("--set=generations=300")


def test_a_node_that_dies_gives_its_job_back_and_the_run_ends_with_the_same_h(
    slurm: Slurm, folder: Path
) -> None:
    answer = submit(
        slurm, folder, "mine.toml", "--ntasks-per-node=2", "--run=runs/lost", "--set=generations=300"
    )  # fmt: skip
    wait_for_generations(folder / "runs/lost", 3)
    slurm.kill_node()
    assert not (folder / "runs/lost/DONE.json").exists()
    (folder / "slow").unlink()
    slurm.start_node()
    wait_until_done(slurm, folder, "runs/lost", answer)
    assert "start 2" in logs_of(answer, folder)
    assert hash_of(folder, "runs/lost") == uninterrupted("--set=generations=300")


def test_what_the_cluster_cannot_run_is_refused_before_it_is_queued(
    slurm: Slurm, folder: Path
) -> None:
    for words, text in (
        (("--partition=nowhere",), "this cluster has no partition 'nowhere'; use one of main, short"),
        (("--ntasks-per-node=64",), "the nodes of the default partition main have 4 CPUs"),
        (("--time=1-0", "--partition=short"), "partition short allows 00:05:00 at most"),
        (("--constraint=gpu",), "choose another --constraint"),
        (("--sbatch=--nonsense=3",), "remove it from the site file or from --sbatch"),
    ):  # fmt: skip
        refused = slurm.esd("submit", "mine.toml", *words, cwd=folder)
        assert refused.returncode == 2, (words, refused.stdout)
        assert text in refused.stderr, refused.stderr
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert not (folder / "runs").exists()
    assert not slurm.command("squeue", "-h").strip()


def test_the_commands_of_the_page_and_the_scripts_to_copy_give_the_same_h(
    slurm: Slurm, folder: Path
) -> None:
    page = (REPOSITORY / "docs/launch/slurm.md").read_text("utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 11
    (folder / "launch").symlink_to(REPOSITORY / "launch")
    jobs: list[str] = []
    for line in lines:
        done = slurm.run("bash", "-c", line, cwd=folder)
        assert done.returncode == 0, line + done.stdout + done.stderr
        jobs += re.findall(r"^[Ss]ubmitted (?:batch )?job (\d+)", done.stdout, re.MULTILINE)
    assert len(jobs) == 5
    names = [f"cartpole-s{seed}" for seed in range(9)]
    slurm.wait_for(lambda: not slurm.command("squeue", "-h").strip(), "the jobs to end", 200)
    logs = [path.read_text(errors="replace") for path in folder.rglob("*.[ol][uo][tg]")]
    assert [n for n in names if not (folder / "runs" / n / "DONE.json").exists()] == [], logs
    rows = json.loads(slurm.esd("show", "runs", "--json", cwd=folder).stdout)["runs"]
    assert {row["state"] for row in rows} == {"done"}
    first, array = jobs[:2]
    told = {row["run"]: (row["job"], row["settings"]) for row in rows if row["job"]}
    assert told == {
        "cartpole-s0": (first, []), "cartpole-s1": (f"{array}_0", ["seed=1"]),
        "cartpole-s2": (f"{array}_1", ["seed=2"]),
    }  # fmt: skip
    for seed in (2, 3, 4):  # of an array, by srun --mpi=pmix, by esd launch in an allocation
        esd.train("cartpole", seed=seed, run=folder / f"alone{seed}")
        assert hash_of(folder, f"runs/cartpole-s{seed}") == hash_of(folder, f"alone{seed}")


def test_a_script_to_copy_queues_itself_again_and_ends_with_the_same_h(
    slurm: Slurm, folder: Path
) -> None:
    script = REPOSITORY / "launch/slurm/array.sh"
    words = ("mine.toml", "--set=generations=300")
    job = slurm.run("sbatch", "--parsable", "--array=1", script, *words, cwd=folder).stdout.strip()
    wait_for_generations(folder / "runs/mine-s1", 3)
    slurm.command("scancel", "--signal=USR1", job)
    slurm.wait_for(lambda: slurm.state(job) == "PENDING", "the job to be queued again", 30)
    (folder / "slow").unlink()
    slurm.wait_for((folder / "runs/mine-s1/DONE.json").exists, "the run to be done", 60)
    assert hash_of(folder, "runs/mine-s1") == uninterrupted("--set=generations=300", "--set=seed=1")
