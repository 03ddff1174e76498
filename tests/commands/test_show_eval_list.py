"""``esd show``, ``esd eval`` and ``esd list`` on a run that was really trained."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors

from esd.commands.live_view import short
from esd.errors import UsageError
from esd.evaluation import of_run
from esd.run.training_folder import TrainingFolder
from tests.helpers.configs import small
from tests.helpers.installed_package import install
from tests.helpers.shell import TINY, command, contents, environment, esd
from tests.helpers.training import trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny run in ``run``."""
    folder = tmp_path_factory.mktemp("shown")
    result = esd("train", *TINY, "--run", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_show_json_tells_where_the_run_stands(folder: Path) -> None:
    shown = json.loads(esd("show", "run", "--json", cwd=folder).stdout)
    done = json.loads((folder / "run" / "DONE.json").read_text())
    assert shown["generation"] == shown["generations"] == 3
    assert shown["finished"] is True
    assert shown["h_sha256"] == done["h_sha256"]
    assert shown["h_size"] == 1040
    assert shown["env_steps"] == done["env_steps"]
    assert shown["best_center_return"] == done["best_center_return"]
    assert shown["config"]["population"] == 6
    assert shown["last_return_mean"] > 0


def test_any_generation_is_rebuilt_from_the_journal_alone(folder: Path) -> None:
    hashes = [
        json.loads(esd("show", "run", "--json", "--generation", str(g), cwd=folder).stdout)[
            "h_sha256"
        ]
        for g in range(4)
    ]
    assert len(set(hashes)) == 4
    assert hashes[3] == json.loads((folder / "run" / "DONE.json").read_text())["h_sha256"]
    text = (folder / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for g in range(4):  # what is said of a state is what led to it
        shown = json.loads(esd("show", "run", "--json", "--generation", str(g), cwd=folder).stdout)
        assert shown["generation"] == g
        assert shown["env_steps"] == (lines[g - 1 + (g == 3)]["env_steps"] if g else 0)
        assert shown["last_return_mean"] == (lines[g - 1]["return_mean"] if g else None)
    whole = json.loads(esd("show", "run", "--json", cwd=folder).stdout)
    assert shown == whole, "the last generation is the run as it stands"
    beyond = esd("show", "run", "--generation", "4", cwd=folder)
    assert beyond.returncode == 2
    assert "0 to 3" in beyond.stderr


def test_a_stranger_s_run_does_not_reach_the_terminal(folder: Path, tmp_path: Path) -> None:
    """Its name and its metrics may hold what clears the screen or names the window."""
    run, evil = tmp_path / "run\33[2J", "\33]0;title\7"
    shutil.copytree(folder / "run", run)
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**own, evil: 1.0}) + "\n" for own in lines))
    for arguments in (["run\33[2J"], ["run\33[2J", "--settings"], ["run\33[2J", "--csv"], ["."]):
        shown = esd("show", *arguments, cwd=tmp_path)
        assert shown.stdout
        assert not {*shown.stdout, *shown.stderr} & {"\33", "\7"}, arguments


def test_show_prints_a_table_csv_and_follows_to_the_end(folder: Path) -> None:
    table = esd("show", "run", cwd=folder).stdout
    lines = table.replace("h sha256", "h_sha256").splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
    assert shown["h_sha256"] == json.loads((folder / "run" / "DONE.json").read_text())["h_sha256"]
    assert shown["es.sigma"] == "0.2"
    rows = list(csv.DictReader(io.StringIO(esd("show", "run", "--csv", cwd=folder).stdout)))
    assert [row["generation"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[0]["sigma"]) == 0.2
    followed = esd("show", "run", "--follow", cwd=folder, timeout=30).stdout
    assert [line.split()[1] for line in followed.splitlines()] == ["0", "1", "2", "3"]
    own = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[0])
    told = f"center {short(own['center_return'])}  mean {short(own['return_mean'])}"
    assert followed.startswith(f"generation 0  {told}  steps "), "as esd train says it"


def test_a_damaged_run_in_a_folder_of_runs_is_called_so(folder: Path, tmp_path: Path) -> None:
    def cut_journal(run: Path) -> None:
        (run / "journal.bin").write_bytes((run / "journal.bin").read_bytes()[:300])

    damages: dict[str, Callable[[Path], object]] = {
        "whole": lambda run: None,
        "no-metrics": lambda run: (run / "metrics.jsonl").write_bytes(b"\xff"),
        "no-config": lambda run: (run / "config.toml").unlink(),
        "odd-end": lambda run: (run / "DONE.json").write_text(
            (run / "DONE.json").read_text().replace('"generation": 3', '"generation": "3"')
        ),
        "empty-journal": lambda run: (run / "journal.bin").write_bytes(b""),
        "cut-journal": cut_journal,
    }
    for name, damage in damages.items():
        shutil.copytree(folder / "run", tmp_path / name)
        damage(tmp_path / name)
    shown = esd("show", ".", "--json", cwd=tmp_path)
    rows = {row["run"]: row for row in json.loads(shown.stdout)["runs"]}
    states = {name: row["state"] for name, row in rows.items()}
    damaged = dict.fromkeys(["no-config", "empty-journal", "cut-journal"], "damaged")
    assert states == {"whole": "done", "no-metrics": "done", "odd-end": "stopped", **damaged}
    best = rows["whole"]["best_center_return"]
    assert best is not None
    assert rows["no-metrics"]["best_center_return"] == best, "rebuilt from the journal"
    for name in ("no-metrics", "odd-end", *damaged):
        assert f"{name}/" in shown.stderr


def test_follow_shows_generations_while_they_are_trained(tmp_path: Path) -> None:
    training = subprocess.Popen(
        command("train", "--run", "run", *TINY, "--set", "generations=30"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
    )
    journal = tmp_path / "run" / "journal.bin"
    while not (journal.exists() and journal.stat().st_size):  # it is created empty
        assert training.poll() is None
        time.sleep(0.02)
    followed = esd("show", "run", "--follow", cwd=tmp_path)
    training.communicate(timeout=60)
    assert [int(line.split()[1]) for line in followed.stdout.splitlines()] == list(range(31))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["run/checkpoints"], "not the folder of a run"),
        (["run", "--json", "--csv"], "cannot be combined"),
        (["run", "--generation", "-1"], "generation -1"),
        (["run", "--generation", "1", "--csv"], "cannot be combined with --csv and --follow"),
    ],
)
def test_wrong_use_of_show_is_a_clear_error(arguments: list[str], words: str, folder: Path) -> None:
    result = esd("show", *arguments, cwd=folder)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_eval_writes_its_result_into_the_run_and_says_which_checkpoint(folder: Path) -> None:
    result = json.loads(
        esd("eval", "run", "--episodes", "9", "--seed", "3", "--json", cwd=folder).stdout
    )
    assert result["checkpoint"] == "best"
    stored = list((folder / "run" / "evaluations").glob("best-*-s3-n9-*.json"))
    assert len(stored) == 1
    (variant,) = json.loads(stored[0].read_text())["variants"]
    returns = variant["returns"]
    assert (variant["name"], variant["seen"], len(returns)) == ("CartPole-v1", True, 9)
    assert result["mean"] == pytest.approx(np.mean(returns))
    assert result["std"] == pytest.approx(np.std(returns, ddof=1))
    again = json.loads(
        esd("eval", "run", "--episodes", "9", "--seed", "3", "--json", cwd=folder).stdout
    )
    assert again == result
    other = json.loads(
        esd("eval", "run", "--episodes", "9", "--seed", "4", "--json", cwd=folder).stdout
    )
    assert other["mean"] != result["mean"]


def test_eval_in_text_names_the_interval_for_what_it_is(folder: Path) -> None:
    text = esd("eval", "run", "--episodes", "5", "--checkpoint", "last", cwd=folder).stdout
    first, head, row, last = text.splitlines()
    assert first == (
        "run, generation 3, CartPole-v1: last checkpoint, 5 test episodes per variant, seed 0"
    )
    assert head.split()[:3] == ["variant", "mean", "std"]
    assert row.split()[:2] == ["CartPole-v1", "seen"]
    assert "episode noise of this run" in last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: does not exist"),
        (["run", "--variant", "x"], "--variant x: no such variant, the run has no variants"),
        (["run", "--set", "es.sigma=1"], "--set es.sigma=1: can't be changed in an evaluation"),
        (["run", "--set", "policy.hidden=[3]"], "policy.hidden: h was evolved for another network"),
        (["run", "--set", "env.kwargs.nope=3"], "env.kwargs = {'nope': 3}"),
        (["run", "--trace", "nowhere/t"], "--trace nowhere/t: expected a file in a folder"),
        (["run", "--trace", "run/journal.bin"], "exists and is not a trace"),
        (
            ["run", "--trace", "t.csv"],
            "--trace t.csv: expected a file name that ends in .safetensors",
        ),
        (["run", "--trace", "run/checkpoints/best.safetensors"], "exists and is not a trace"),
        (["run", "--trace-every", "4"], "--trace-every 4: has no effect without --trace FILE"),
        (["run", "--video-seconds", "4"], "--video-seconds 4.0: has no effect without --video"),
        (["run", "--rules", "other"], "'other' is not one of"),
    ],
)
def test_wrong_use_of_eval_is_a_clear_error(arguments: list[str], words: str, folder: Path) -> None:
    before = contents(folder / "run")
    result = esd("eval", *arguments, "--episodes", "2", cwd=folder)
    assert result.returncode == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert contents(folder / "run") == before


def test_a_run_whose_center_was_not_evaluated_yet_says_what_to_take(tmp_path: Path) -> None:
    config = small("cartpole", "generations=1", "run.center_every=0")
    trained(config, tmp_path / "run")
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, center_every=5))
    folder = TrainingFolder(tmp_path / "run")
    folder.store_config(config)
    with pytest.raises(UsageError, match="use --checkpoint last"):
        of_run.load(folder, "best", print)


def test_a_run_without_checkpoints_is_evaluated_from_its_journal(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    best = esd("eval", "run", "--episodes", "2", "--json", cwd=tmp_path)
    assert "best.safetensors: missing" in best.stderr
    wanted = esd("eval", "run", "--episodes", "2", "--json", cwd=folder)
    assert json.loads(best.stdout)["variants"] == json.loads(wanted.stdout)["variants"]
    last = esd("eval", "run", "--episodes", "2", "--checkpoint", "last", "--json", cwd=tmp_path)
    assert json.loads(last.stdout)["generation"] == 3, "rebuilt from the journal"


def test_eval_records_an_episode_and_says_so(folder: Path) -> None:
    arguments = ["--episodes", "2", "--trace", "t.safetensors", "--trace-every", "4"]
    for _ in range(2):  # an older trace is replaced
        result = esd("eval", "run", *arguments, cwd=folder)
    assert "recorded the first episode on CartPole-v1 in t.safetensors" in result.stdout
    assert "To embed this one: esd report run --trace t.safetensors\n" in result.stdout
    with safetensors.safe_open(folder / "t.safetensors", "numpy") as file:
        words = file.metadata()
        assert (words["run"], words["variant"], words["weights_every"]) == (
            "run",
            "CartPole-v1",
            "4",
        )
        assert file.get_tensor("observations").shape == (int(words["steps"]), 4)


def test_eval_on_another_environment_of_the_same_sizes_or_a_clear_error(folder: Path) -> None:
    hidden = ["--env", "esd/HiddenCartPole-v0", "--episodes", "4"]
    fine = esd("eval", "run", *hidden, "--json", cwd=folder)
    assert json.loads(fine.stdout)["env"] == "esd/HiddenCartPole-v0"
    wrong = esd("eval", "run", "--env", "Acrobot-v1", cwd=folder)
    assert wrong.returncode == 2
    assert "another size" in wrong.stderr


def test_one_episode_has_no_interval_and_json_stays_valid(folder: Path) -> None:
    result = json.loads(esd("eval", "run", "--episodes", "1", "--json", cwd=folder).stdout)
    assert result["interval_95"] is None
    assert result["std"] is None
    assert result["variants"][0]["mean"] == result["mean"]
    shown = esd("eval", "run", "--episodes", "1", cwd=folder).stdout
    assert "nan" not in shown
    assert f"{result['mean']:.2f}" in shown
    assert "1 episode gives no standard deviation and no interval" in shown


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("experiments", "halfcheetah"),
        ("experiments", "repeat-previous-easy-gru"),
        ("policies", "hebbian"),
        ("rules", "ABCD_lr"),
        ("optimizers", "clipup"),
        ("shapings", "centered_rank_unit"),
        ("noise", "binomial"),
        ("environments", "esd/HiddenCartPole-v0"),
        ("environments", "esd/AssociativeRecall-v0"),
        ("environments", "esd/RepeatPrevious-v0"),
        ("environments", "esd/TMaze-v0"),
        ("environments", "popgym-RepeatPreviousEasy-v0"),
        ("settings", "es.sigma"),
    ],
)
def test_list_names_what_there_is(topic: str, name: str, tmp_path: Path) -> None:
    assert name in json.loads(esd("list", topic, "--json", cwd=tmp_path).stdout)[topic]
    assert name in esd("list", topic, cwd=tmp_path).stdout


def test_a_broken_package_is_named_in_the_list_of_settings_and_ends_nothing(tmp_path: Path) -> None:
    groups = ("algorithms", "optimizers", "policies")
    install(tmp_path, "b", {}, {f"esd.{group}": {"broken": "nowhere:X"} for group in groups})
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    result = esd("list", "settings", "--json", cwd=tmp_path, PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert "nowhere:X can't be imported" in settings["es.<broken>"]
    assert "nowhere:X can't be imported" in settings["policy.<broken>"]
    assert "es.<snes>.sigma_learning_rate" in settings
    assert "policy.<gru>.units" in settings


def test_an_evaluation_that_cannot_be_kept_is_told_all_the_same(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    (tmp_path / "run" / "evaluations").write_text("in the way")
    result = esd("eval", "run", "--episodes", "3", "--json", cwd=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "run/evaluations: is a regular file, expected a folder; remove it" in result.stderr
    assert json.loads(result.stdout)["episodes"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "run", "--episodes", "3"],
        ["doctor", "--env", "CartPole-v1"],
        ["bench", "noise", "--rounds", "1"],
        ["list"],
        ["list", "settings"],
        ["show", "run"],
        ["--help"],
    ],
)
def test_a_reader_that_leaves_early_is_no_failure(words: list[str], folder: Path) -> None:
    process = subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, b"")


def test_a_broken_pipe_of_an_environments_own_is_told(tmp_path: Path) -> None:
    words = ("--set", "env.id=tests.helpers.user_code:Failing-v0", "--set", "env.kwargs.how=pipe")
    result = esd("train", *TINY, *words, "--set", "env.kwargs.share=1.0", cwd=tmp_path)
    assert result.returncode == 2
    assert (
        "step 3: raised BrokenPipeError: the simulator has gone (user_code.py, line "
        in result.stderr
    )


def test_show_prints_what_differs_from_the_defaults_and_everything_on_request(
    folder: Path,
) -> None:
    few = esd("show", "run", cwd=folder).stdout
    every = esd("show", "run", "--settings", cwd=folder).stdout
    assert "es.sigma " in few
    assert "es.momentum" not in few
    assert "es.momentum" in every
    (count,) = re.findall(r"^(\d+) other settings have their default", few, re.MULTILINE)
    assert len(every.splitlines()) - len(few.splitlines()) == int(count) - 1
    assert "have their default" not in every
