"""What ``esd submit`` reads: sweeps, time limits, a cluster's description, and SLURM's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.errors import UsageError
from esd.launching import slurm, submission
from esd.launching.site import Site, read_site, site_of
from esd.launching.slurm import Partition, State
from esd.launching.slurm_time import seconds_of, text_of
from esd.launching.sweep import MOST_TASKS, array_axis, combinations, grid_axis


@pytest.mark.parametrize(
    ("text", "values", "at_once"),
    [
        ("seed=0-4", "0 1 2 3 4", None),
        ("seed=3", "3", None),
        ("seed=0,3,8-20:4", "0 3 8 12 16 20", None),
        (" seed = 5-6 ", "5 6", None),
        ("seed=0-2%2", "0 1 2", 2),
    ],
)
def test_an_array_is_written_as_slurm_writes_it(
    text: str, values: str, at_once: int | None
) -> None:
    axis, limit = array_axis(text)
    assert (axis.key, " ".join(axis.values), limit) == ("seed", values, at_once)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0-4", "such as --array seed=0-4"),
        ("seed=", "such as --array seed=0-4"),
        ("seed=a", "'a' is not a number"),
        ("seed=0.5", "'0.5' is not a number"),
        ("seed=4-0", "'4-0' is empty"),
        ("seed=0-4:0", "is empty"),
        ("seed=1,1", "'1' is given twice"),
        ("seed=0-4%0", "after %"),
        ("seed=0-999999999999", "more than 10,000 tasks"),
        ("seed=" + "9" * 400, "is not a number"),
        ("seed=1,", "'' is not a number"),
    ],
)
def test_an_array_that_is_none_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        array_axis(text)
    assert says.lower() in str(refused.value).lower()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("es.sigma=0.05,0.1", ["0.05", "0.1"]),
        ("policy.hidden=[64, 32],[128]", ["[64, 32]", "[128]"]),
        ('env.kwargs={a = 1, b = "x,y"},{}', ['{a = 1, b = "x,y"}', "{}"]),
        ("env.id='a,b',c=d", ["'a,b'", "c=d"]),
        ("es.algorithm=snes", ["snes"]),
    ],
)
def test_a_grids_values_stand_between_commas_outside_of_brackets_and_quotes(
    text: str, values: list[str]
) -> None:
    assert list(grid_axis(text).values) == values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("es.sigma", "such as --grid es.sigma=0.05,0.1"),
        ("es.sigma=0.1,,0.2", "a value is empty"),
        ("es.sigma=0.1,0.1", "given twice"),
        ("policy.hidden=[1,2", "] is missing"),
        ("=1", "such as --grid"),
    ],
)
def test_a_grid_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("[", r"\[").replace("]", r"\]")):
        grid_axis(text)


def test_axes_are_combined_and_the_last_one_changes_first() -> None:
    axes = [grid_axis("a=1,2"), array_axis("seed=0-1")[0]]
    assert combinations(axes) == [
        ("a=1", "seed=0"), ("a=1", "seed=1"), ("a=2", "seed=0"), ("a=2", "seed=1"),
    ]  # fmt: skip
    assert combinations([]) == [()]
    with pytest.raises(UsageError, match="varied twice"):
        combinations([grid_axis("seed=7"), axes[1]])
    with pytest.raises(UsageError, match=f"at most {MOST_TASKS:,}"):
        combinations([array_axis("a=0-999")[0], array_axis("b=0-999")[0]])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800), ("1:30", 90), ("2:00:00", 7200), ("1-0", 86400), ("1-12", 129_600), ("1-12:30", 131_400),
        ("1-12:30:05", 131_405), ("0:61:00", 3660),
    ],
)  # fmt: skip
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(text_of(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0:00", "two hours", "-5", "1:2:3:4", "1.5", "9" * 30, "99999-0"]
)
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--time 2:00:00"):
        seconds_of(text)


def test_a_site_is_read_and_the_default_file_need_not_exist(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    assert read_site(None, file) == Site()
    with pytest.raises(UsageError, match="no such file"):
        read_site(file)
    file.write_text(
        'partition = "gpu"\nmodules = ["openmpi"]\nvenv = "~/v"\nsbatch = ["--mem=8G"]\n'
        '[environment]\nA = "x y"\n'
    )
    site = read_site(file)
    assert (site.partition, site.modules, site.environment) == ("gpu", ("openmpi",), {"A": "x y"})
    assert site.venv == str(Path("~/v").expanduser())


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"partitions": "a"}, "did you mean 'partition'?"),
        ({"partition": 3}, "expected a string in quotes"),
        ({"partition": "a b"}, "without spaces"),
        ({"partition": "a\n#SBATCH --x"}, "without spaces"),
        ({"modules": "gcc"}, "expected a list"),
        ({"modules": [1]}, "expected a string"),
        ({"launcher": "aprun"}, "expected one of srun, mpirun"),
        ({"venv": "a", "conda": "b"}, "cannot be combined"),
        ({"environment": {"A B": "x"}}, "is not the name of a variable"),
        ({"environment": {"A": 1}}, "expected a string"),
        ({"environment": []}, "expected a table"),
        ({"sbatch": ["--array=0-3"]}, "use --array"),
        ({"sbatch": ["-N 2"]}, "use --nodes"),
        ({"sbatch": ["--no-requeue"]}, "sets this itself"),
        ({"sbatch": ["rm -rf"]}, "expected one option of sbatch"),
        ({"sbatch": ["--comment=a\nb"]}, "expected one option of sbatch"),
        ({"sbatch": ['--comment="a b"']}, "expected one option of sbatch"),
        ({"before": ["echo 'hi"]}, "before: is not valid bash ("),
    ],
)
def test_what_is_wrong_with_a_site_is_one_line_that_names_the_file(
    table: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        site_of(table, "site.toml")
    assert str(refused.value).startswith("site.toml: ")
    assert says in str(refused.value)


def test_options_that_sbatch_has_are_taken() -> None:
    words = ["--mem=8G", "--exclusive", "-C gpu", "-x node[1-3]", "--mail-type=END,FAIL"]
    assert site_of({"sbatch": words}, "x").sbatch == tuple(words)


# what sinfo of SLURM 22.05 printed for a cluster of such nodes
SINFO = "main*|2:00:00|3|4\nmain*|2:00:00|1|16\nshort|5:00|4|4+\nlong|infinite|4|8\nodd|n/a|x|y\n"


def test_partitions_are_read_from_sinfo() -> None:
    assert slurm.parse_partitions(SINFO) == [
        Partition("main", True, 7200, 3, 4), Partition("main", True, 7200, 1, 16),
        Partition("short", False, 300, 4, 4), Partition("long", False, None, 4, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "nodes", "tasks", "seconds", "says"),
    [
        ("", 4, 4, 7200, ""),
        ("", 1, 16, 7200, ""),
        ("", 2, 16, 7200, "the default partition main has 1 with 16 CPUs or more"),
        ("", 5, 1, 60, "has 4. Use fewer --nodes"),
        ("", 1, 17, 60, "the nodes of the default partition main have 16 CPUs"),
        ("short", 1, 1, 301, "partition short allows 00:05:00 at most"),
        ("long", 4, 8, 10**7, ""),
        ("nope", 1, 1, 60, "no partition 'nope'; use one of long, main, short"),
        ("short,long", 1, 1, 600, ""),  # one of them is enough
        ("short,main", 1, 1, 86400, "partition short allows"),
    ],
)
def test_what_a_partition_can_never_run_is_refused(
    name: str, nodes: int, tasks: int, seconds: int, says: str
) -> None:
    known = slurm.parse_partitions(SINFO)
    if not says:
        slurm.check_fits(known, name, nodes, tasks, seconds)
        slurm.check_fits([], "nope", 99, 99, 10**9)  # nobody knows
        return
    with pytest.raises(UsageError) as refused:
        slurm.check_fits(known, name, nodes, tasks, seconds)
    assert says in str(refused.value)


def test_a_cluster_without_a_default_partition_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="--partition: only"):
        slurm.check_fits([Partition("only", False, None, 1, 1)], "", 1, 1, 60)


def test_states_are_read_from_squeue_and_sacct() -> None:
    assert slurm.parse_states("12_0|RUNNING|None\n12_1|PENDING|Priority\n7|CANCELLED by 0\nx|y\n\n") == {
        "12_0": State("RUNNING"), "12_1": State("PENDING", "Priority"), "7": State("CANCELLED"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "use fewer --ntasks-per-node",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "choose one with --account",
        ),
        ("sbatch: error: Batch job submission failed: invalid partition specified: x", "choose one with --partition"),
        (
            "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
            "size and/or time limits)",
            "over a limit of your account or QOS",
        ),
        ("sbatch: unrecognized option '--x=3'\nTry \"sbatch --help\" for more information", "site file"),
        ("", "no reason given"),
        ("sbatch: error: something new", "something new"),
    ],
)  # fmt: skip
def test_what_sbatch_says_is_one_line_with_the_fix(
    stderr: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # a sinfo without a cluster takes seconds to say so
    text = slurm.why_refused(stderr)
    assert says in text
    assert "sbatch: error" not in text
    assert "\n" not in text


def test_submissions_of_a_folder_are_numbered_and_read_back(tmp_path: Path) -> None:
    assert submission.free_name(tmp_path, "a") == "a-1"
    for number, job in ((1, "11"), (2, "12")):
        name = submission.make_folder(tmp_path, "a")
        assert name == f"a-{number}"
        first = {"task": 0, "run": "r0", "settings": ["seed=0"]}
        tasks = [first, {"task": 1, "run": "r1", "settings": []}]
        record = {"job": job, "array": number == 1, "tasks": tasks[: 3 - number]}
        submission.write_record(tmp_path / "submissions" / name, record)
    found = [(task.job, task.run, task.settings) for task in submission.submitted_tasks(tmp_path)]
    assert found == [("11_0", "r0", ("seed=0",)), ("11_1", "r1", ()), ("12", "r0", ("seed=0",))]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"tasks": 3}', '{"tasks": [3, {"run": "../x"}, {"run": 4}, {"run": ".."}, {"run": ""}]}',
        '{"job": "1; rm", "tasks": [{"run": "a", "settings": 5, "task": "x"}]}', "\x00", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_submission_that_anyone_has_written_does_no_harm(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "submissions" / "x"
    folder.mkdir(parents=True)
    (folder / "submission.json").write_text(text)
    said: list[str] = []
    found = list(submission.submitted_tasks(tmp_path, said.append))
    assert all("/" not in task.run and task.run not in ("..", "") for task in found)
    assert all(task.job == "" for task in found)
    assert found or said or "tasks" in text
    assert all(len(line) <= 1000 for line in said)
