"""``esd submit`` without a cluster: what is checked, what is written, and ``esd show`` of a folder of runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from esd.cli import app
from esd.errors import UsageError
from esd.launching.site import Site
from esd.launching.submission import EXPERIMENT, FOLDER, SCRIPT
from esd.launching.submit import SubmitRequest, prepare
from tests.helpers.shell import TINY, esd

Call = Callable[..., tuple[int, str, str]]
SQUEUE = "7_0|RUNNING|None\n7_1|PENDING|Priority\n"
SBATCH = """#!/bin/bash
[ "${REFUSE:-}" = "" ] || { echo "sbatch: error: $REFUSE" >&2; exit 1; }
printf '%s\\n' "$@" >sbatch-words
cat -- "${@: -1}" >sbatch-script
echo "7;cluster"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a site file or SLURM's commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", f"{empty}")
    return tmp_path


@pytest.fixture
def cluster(here: Path) -> Path:
    """The same with stand-ins for sbatch and squeue."""
    bash = shutil.which("bash", path=os.defpath)
    cat = shutil.which("cat", path=os.defpath)
    assert bash is not None
    assert cat is not None
    (here / "bin" / "cat").symlink_to(cat)
    for name, text in (("sbatch", SBATCH), ("squeue", f"#!{bash}\necho '{SQUEUE}'\n")):
        (here / "bin" / name).write_text(text.replace("/bin/bash", bash))
        (here / "bin" / name).chmod(0o755)
    return here


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls esd in this process; the exit code, stdout and stderr."""

    def calling(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            app(list(words))
        said = capfd.readouterr()
        return int(ending.value.code or 0), said.out, said.err

    return calling


def request(**changes: object) -> SubmitRequest:
    """A request with some other values."""
    values: dict[str, object] = {
        "experiment": "cartpole", "run": None, "settings": (), "array": None, "grid": (), "nodes": 1,
        "tasks_per_node": 2, "time": "1:00:00", "stop_before": None, "give_up_after": 5, "gpus_per_node": None,
        "fault_tolerant": False, "trust": False, "options": (), "site": Site(),
    }  # fmt: skip
    return SubmitRequest(**{**values, **changes})  # type: ignore[arg-type]


def prepared_tasks(**changes: object) -> list[tuple[str, tuple[str, ...]]]:
    prepared = prepare(request(**changes), "/here", "python", lambda text: None)
    return [(task.run, task.settings) for task in prepared.job.tasks]


def test_a_run_is_where_esd_train_would_put_it(here: Path) -> None:
    assert prepared_tasks() == [("runs/cartpole-s0", ())]
    assert prepared_tasks(settings=("es.sigma=0.05",)) == [("runs/cartpole-es.sigma=0.05-s0", ())]
    assert prepared_tasks(run=Path("a b")) == [("a b", ())]
    assert prepared_tasks(experiment=None) == [("runs/cartpole-s0", ())]


def test_every_task_of_an_array_and_a_grid_has_a_folder_with_a_readable_name(here: Path) -> None:
    swept = {"array": "seed=0-1", "grid": ("es.sigma=0.05,0.1",)}
    names = [f"cartpole-es.sigma={sigma}-s{seed}" for sigma in ("0.05", "0.1") for seed in (0, 1)]
    assert [run for run, _ in prepared_tasks(**swept)] == [f"runs/{name}" for name in names]
    below = [run for run, _ in prepared_tasks(**swept, run=Path("x y"))]
    assert below == [f"x y/{name}" for name in names]
    assert prepared_tasks(**swept)[3][1] == ("es.sigma=0.1", "seed=1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": ("es.sgima=1",)}, "es.sgima"),
        ({"settings": ("env.id=CartPole-v9",)}, "CartPole-v9"),
        ({"settings": ("population=7",)}, "population = 7"),
        ({"experiment": "cartpoel"}, "did you mean 'cartpole'?"),
        ({"grid": ("es.sigma=0.1,-3",)}, "es.sigma"),
        ({"grid": ("policy.hidden=[8],[0]",)}, "policy.hidden"),
        ({"grid": ("generations=3,4",)}, "same folder"),
        ({"array": "seed=0-1", "settings": ("seed=5",)}, "seed is also varied by"),
        ({"array": "seed=0-1", "grid": ("seed=5",)}, "varied twice"),
        ({"time": "1", "stop_before": 60}, "--time 00:01:00: too short"),
        ({"stop_before": 1}, "at least 5 seconds"),
        ({"time": "soon"}, "is not a time limit"),
        ({"gpus_per_node": "many"}, "--gpus-per-node 'many'"),
        ({"fault_tolerant": True}, "needs --launcher mpirun"),
        ({"site": Site(partition="a b")}, "--partition"),
        ({"options": ("--array=1-3",)}, "use --array"),
        ({"run": Path("bin")}, "is not a run"),
    ],
)
def test_what_is_wrong_is_found_before_a_job_is_queued(
    here: Path, changes: dict[str, object], says: str
) -> None:
    (here / "bin" / "file").touch()
    with pytest.raises(UsageError) as refused:
        prepare(request(**changes), "/here", "python", lambda text: None)
    assert says in str(refused.value)
    assert not (here / "runs").exists()


def test_a_device_that_only_the_job_has_is_no_reason_to_refuse(here: Path) -> None:
    pytest.importorskip("torch")
    said: list[str] = []
    prepare(request(settings=("device=cuda",)), "/here", "python", said.append)
    assert any("--gpus-per-node" in text for text in said)
    said.clear()
    prepare(request(settings=("device=cuda",), gpus_per_node="1"), "/here", "python", said.append)
    assert not said


def test_more_ranks_than_members_are_worth_a_line(here: Path) -> None:
    said: list[str] = []
    prepare(request(settings=("population=6",), nodes=2, tasks_per_node=4), "/", "p", said.append)
    assert said == ["8 ranks for 6 members: 2 of them are idle"]


def test_a_finished_run_is_not_submitted_and_a_slow_one_needs_time(
    here: Path, finished: Path
) -> None:
    shutil.copytree(finished / "runs", here / "runs")
    settings = tuple(word.removeprefix("--set=") for word in TINY)
    run = Path("runs/cartpole-s4")
    with pytest.raises(UsageError, match="nothing left to train"):
        prepare(request(run=run, experiment=None), "/here", "python", lambda text: None)
    more = (*settings[:1], *settings[2:], "generations=9")
    assert prepared_tasks(run=run, experiment="cartpole", settings=more)
    metrics = here / run / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:  # as if a generation took 1,000 s on four ranks
        line |= {"generation_seconds": 1000.0, "ranks": 4}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    slow = request(run=run, experiment=None, settings=("generations=9",), time="1:30:00")
    assert prepare(slow, "/here", "python", lambda text: None).job.stop_before == 3000
    for changes, says in (
        ({"time": "1:00:00"}, "a generation takes about 2000 s on 2 ranks"),
        ({"stop_before": 300}, "too short for a generation"),
    ):
        with pytest.raises(UsageError, match=says):
            prepare(SubmitRequest(**{**vars(slow), **changes}), "/", "p", lambda text: None)


def test_a_dry_run_prints_the_script_and_writes_nothing(here: Path, call: Call) -> None:
    code, script, errors = call("submit", "cartpole", "--time=10", "--array=seed=0-1", "--dry-run")
    assert (code, errors) == (0, "")
    assert script.startswith("#!/bin/bash\n#SBATCH --job-name=cartpole\n")
    assert "#SBATCH --array=0-1\n" in script
    assert subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=False).returncode == 0
    code, answer, _ = call("submit", "cartpole", "--time=10", "--dry-run", "--json")
    assert json.loads(answer)["script"].startswith("#!/bin/bash")
    assert [path.name for path in here.iterdir()] == ["bin"]


def test_it_is_not_for_several_ranks(
    cluster: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    code, _, errors = call("submit", "cartpole")
    assert code == 2
    assert "run it once, without mpirun or srun" in errors
    assert not (cluster / "runs").exists()


def test_without_sbatch_one_line_says_where_to_go(here: Path, call: Call) -> None:
    code, _, errors = call("submit", "cartpole")
    assert code == 2
    assert errors.startswith("esd: sbatch: not found. Run esd submit on a login node")
    assert len(errors.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["bin"]


def test_a_submission_is_written_submitted_and_shown(cluster: Path, call: Call) -> None:
    (cluster / "mine.toml").write_text('extends = "cartpole"\npopulation = 6\n')
    site = cluster / "config" / "esd" / "submit.toml"
    site.parent.mkdir(parents=True)
    site.write_text('partition = "gpu"\nmodules = ["openmpi"]\n')
    code, answer, errors = call("submit", "mine.toml", "--array=seed=0-1", "--json")
    assert (code, errors) == (0, "")
    told = json.loads(answer)
    assert told["job"] == "7"
    assert told["folder"] == "runs/submissions/mine-1"
    assert [task["run"] for task in told["tasks"]] == ["mine-s0", "mine-s1"]
    words = (cluster / "sbatch-words").read_text().split()
    assert words == ["--parsable", "--", "runs/submissions/mine-1/job.sh"]
    script = (cluster / "sbatch-script").read_text()
    assert "#SBATCH --partition=gpu\n" in script
    assert "module load openmpi || exit 1" in script
    assert "-- runs/submissions/mine-1/experiment.toml)" in script
    (cluster / "mine.toml").unlink()  # the copy is what the job reads
    assert "population = 6" in (cluster / "runs/submissions/mine-1/experiment.toml").read_text()
    code, table, _ = call("show", "runs")
    assert code == 0
    assert [line.split() for line in table.splitlines()] == [
        ["run", "settings", "job", "state", "generation", "best"],
        ["mine-s0", "seed=0", "7_0", "running", "–", "–"],
        ["mine-s1", "seed=1", "7_1", "pending", "(Priority)", "–", "–"],
    ]  # fmt: skip


def test_a_job_that_slurm_refuses_leaves_nothing(
    cluster: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE", "Batch job submission failed: Invalid qos specification")
    code, _, errors = call("submit", "cartpole")
    assert code == 2
    assert errors.startswith("esd: SLURM rejects the job: Batch job submission failed")
    assert "--qos" in errors
    assert len(errors.splitlines()) == 1
    before = {"bin"}
    assert {path.name for path in cluster.iterdir()} == before
    assert call("submit", "cartpole", "--run", "a b/c/run")[0] == 2
    assert {path.name for path in cluster.iterdir()} == before
    (cluster / "runs").mkdir()  # the user's own stays, although it is empty
    assert call("submit", "cartpole")[0] == 2
    assert [*(cluster / "runs").iterdir()] == []
    # nothing but the reason, although there is something to say of the job
    code, _, errors = call("submit", "cartpole", "--ntasks-per-node=900")
    assert (code, len(errors.splitlines())) == (2, 1)


def test_the_files_of_a_job_that_may_be_queued_stay(
    cluster: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "mine.toml").write_text("population = 6\n[env]\nid = 'CartPole-v1'\n")
    said = "Batch job submission failed: Socket timed out on send/recv operation"
    monkeypatch.setenv("REFUSE", said)
    code, _, errors = call("submit", "mine.toml")
    assert code == 1
    assert said in errors
    assert "look for it with squeue" in errors
    (folder,) = (cluster / "runs" / FOLDER).iterdir()
    assert {path.name for path in folder.iterdir()} >= {EXPERIMENT, SCRIPT}


# what SLURM 22.05 says where it is installed and no cluster is named
NO_CLUSTER = (
    "error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
    "sbatch: error: fetch_config: DNS SRV lookup failed\n"
    "sbatch: error: _establish_config_source: failed to fetch config\n"
    "sbatch: fatal: Could not establish a configuration source"
)


def test_commands_of_slurm_without_a_cluster_are_named_and_not_repeated(
    cluster: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE", NO_CLUSTER)
    code, _, errors = call("submit", "cartpole")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert errors.startswith("esd: SLURM's commands are installed on this machine, but find")
    assert "SLURM_CONF" in errors
    assert "esd launch" in errors
    assert "DNS" not in errors
    assert {path.name for path in cluster.iterdir()} == {"bin"}


def test_show_of_a_folder_lists_runs_that_were_not_submitted_too(
    cluster: Path, call: Call, finished: Path
) -> None:
    shutil.copytree(finished / "runs", cluster / "runs")
    assert call("submit", "cartpole", "--array=seed=0-1", "--set=population=6")[0] == 0
    (cluster / "runs/damaged").mkdir()
    (cluster / "runs/damaged/journal.bin").write_text("nothing that esd has written")
    code, answer, errors = call("show", "runs", "--json")
    rows = {row["run"]: row for row in json.loads(answer)["runs"]}
    assert code == 0
    assert rows["cartpole-population=6-s1"]["state"] == "pending"
    assert rows["cartpole-population=6-s1"]["job"] == "7_1"
    assert rows["cartpole-s4"] | {"best_center_return": 0} == {
        "run": "cartpole-s4", "settings": [], "job": None, "state": "done", "reason": None, "generation": 3,
        "generations": 3, "best_center_return": 0,
    }  # fmt: skip
    assert rows["damaged"]["generation"] is None
    assert "damaged" in errors
    code, _, errors = call("show", "runs", "--follow")
    assert code == 2
    assert "is a folder of runs" in errors


def test_show_of_an_empty_folder_still_says_that_it_is_no_run(here: Path, call: Call) -> None:
    code, _, errors = call("show", "bin")
    assert code == 2
    assert "is not the folder of a run" in errors
    code, _, errors = call("show", "x" * 5000)
    assert (code, len(errors.splitlines())) == (2, 1)


def test_a_run_that_was_trained_in_part_is_shown_as_stopped(
    here: Path, call: Call, finished: Path
) -> None:
    shutil.copytree(finished / "runs", here / "runs")
    (here / "runs/cartpole-s4/DONE.json").unlink()
    (row,) = json.loads(call("show", "runs", "--json")[1])["runs"]
    assert row["state"] == "stopped"


def test_the_help_names_every_option_of_the_page(here: Path) -> None:
    result = esd("submit", "--help", cwd=here, PATH=os.defpath)
    assert result.returncode == 0
    for flag in ("--ntasks-per-node", "--array", "--grid", "--site", "--dry-run", "--launcher"):
        assert flag in result.stdout
