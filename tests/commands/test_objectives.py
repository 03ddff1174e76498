"""The run of an objective from the command line: trained, resumed, looked at, evaluated, compared, examined."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shell import command, environment, esd, messages, wait_for_generations

FILE = """
generations = 6
population = 8

[objective]
function = "my_sim:drag"
direction = "minimize"
values = ["drag", "weight"]

[objective.parameters.wing]
shape = [3]
initial = 0.5
low = 0.0
high = 2.0

[objective.parameters.angle]
initial = "uniform"
low = -1
high = 1
bounds = "transform"

[es]
learning_rate = 0.05

[run]
center_episodes = 2
"""
SIMULATION = '''
import numpy as np

def drag(x, seed):
    """Drag and weight of a wing."""
    noise = 0.01 * np.random.default_rng(seed).standard_normal()
    return {"drag": np.sum((x["wing"] - 0.2) ** 2) + x["angle"] ** 2 + noise, "weight": np.sum(x["wing"])}
'''


def furnished(folder: Path) -> Path:
    """The folder with an objective of the user's own in it."""
    (folder / "mine.toml").write_text(FILE)
    (folder / "my_sim.py").write_text(SIMULATION)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an objective."""
    return furnished(tmp_path)


@pytest.fixture(scope="module")
def with_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an objective and a finished run of it, both to be left as they are."""
    folder = furnished(tmp_path_factory.mktemp("trained"))
    assert esd("train", "mine.toml", "--run", "run", cwd=folder).returncode == 0
    return folder


def numbers(text: str, word: str) -> list[float]:
    return [float(number) for number in re.findall(rf"{word} (-?[\d.e+-]+)", text)]


def test_a_function_is_minimized_and_every_output_says_so_in_its_own_sign(place: Path) -> None:
    trained = esd("train", "mine.toml", "--set", "generations=40", cwd=place)
    assert trained.returncode == 0, trained.stderr
    centers = numbers(trained.stdout, "center")
    assert min(centers) > 0.0
    assert centers[-1] < centers[0]
    assert "evaluations/s" in trained.stdout
    assert "steps" not in trained.stdout
    for line in trained.stdout.splitlines():
        if "best" in line:
            assert numbers(line, "best")[0] <= numbers(line, "mean")[0], "small is good"
    run = place / "runs" / "mine-s0"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(line["center_return"] for line in lines)
    assert json.loads((run / "DONE.json").read_text())["best_center_return"] == best
    shown = json.loads(esd("show", run, "--json", cwd=place).stdout)
    assert shown["best_center_return"] == best
    assert shown["last_return_min"] < shown["last_return_mean"] < shown["last_return_max"]
    assert shown["config"]["objective"]["direction"] == "minimize"
    assert "env" not in shown["config"]
    text = esd("show", run, cwd=place).stdout
    assert re.search(r"^evaluations +\d+$", text, re.MULTILINE)
    assert "steps" not in text
    assert "objective.direction" in text
    evaluated = esd("eval", run, "--episodes", "20", "--json", cwd=place)
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads(evaluated.stdout)
    assert [value["name"] for value in found["variants"]] == ["drag", "weight"]
    assert found["variants"][0]["world"] == {
        "function": "my_sim:drag",
        "direction": "minimize",
        "kwargs": {},
    }
    # noise of 0.01 on the first value alone, over 20 seeds that training has not used
    assert 0.003 < found["variants"][0]["std"] < 0.03
    assert found["variants"][1]["std"] == pytest.approx(0.0, abs=1e-12)
    assert found["mean"] == pytest.approx(best, abs=0.02)
    assert len(list((run / "evaluations").iterdir())) == 1
    wing, angle = (found["parameters"][name] for name in ("wing", "angle"))
    assert len(wing) == 3
    assert all(0.0 <= number <= 2.0 for number in [*wing, abs(angle)])
    weight = next(value for value in found["variants"] if value["name"] == "weight")
    assert sum(wing) == pytest.approx(weight["mean"], rel=1e-12), "what was evaluated"
    followed = esd("show", run, "--follow", cwd=place).stdout
    assert "evaluations" in followed
    assert "steps" not in followed


@pytest.mark.parametrize(("target", "reached"), [(1.0, True), (-1.0, False)])
def test_the_target_is_a_value_to_get_below(place: Path, target: float, reached: bool) -> None:
    """Drag and weight begin near 1.0 together, and can't be negative."""
    arguments = ("train", "mine.toml", "--set", f"run.target_return={target}", "--json")
    result = esd(*arguments, "--set", "generations=60", cwd=place)
    assert result.returncode == 0, result.stderr
    ended = json.loads(result.stdout)
    assert (ended["reason"] == "target_return") == reached
    again = esd(*arguments, "--set", "generations=60", cwd=place)
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert ("to continue, lower run.target_return with --set" in again.stderr) == reached


def h_of(run: Path, cwd: Path) -> str:
    shown: dict[str, Any] = json.loads(esd("show", run, "--json", cwd=cwd).stdout)
    return str(shown["h_sha256"])


def test_a_stop_and_a_resume_change_no_bit(place: Path) -> None:
    slow = """
import pathlib as _pathlib, time as _time
_METRICS = _pathlib.Path("part/metrics.jsonl")

def slow(x, seed):
    _time.sleep(0.02)
    while _pathlib.Path("wait").exists() and _METRICS.exists() and _METRICS.read_text().count("\\n") >= 2:
        _time.sleep(0.02)
    return drag(x, seed)
"""
    (place / "my_sim.py").write_text(SIMULATION + slow)
    words = ("mine.toml", "--set", "objective.function=my_sim:slow")
    assert esd("train", *words, "--run", "whole", cwd=place).returncode == 0
    (place / "wait").touch()
    with subprocess.Popen(
        command("train", *words, "--run", "part"), cwd=place, env=environment(), text=True
    ) as process:
        wait_for_generations(place / "part", 2)
        process.send_signal(signal.SIGUSR1)
        (place / "wait").unlink()
        assert process.wait(60) == 75
    assert not (place / "part" / "DONE.json").exists()
    resumed = esd("train", "--run", "part", cwd=place, ranks=2)
    assert resumed.returncode == 0, resumed.stderr
    assert h_of(place / "part", place) == h_of(place / "whole", place)
    assert (place / "part" / "DONE.json").exists()


def test_two_ranks_give_the_h_of_one_and_share_the_evaluations(with_run: Path) -> None:
    together = esd("train", "mine.toml", "--run", "together", cwd=with_run, ranks=2)
    assert together.returncode == 0, together.stderr
    assert h_of(with_run / "together", with_run) == h_of(with_run / "run", with_run)
    one = esd("eval", "run", "--json", "--episodes", "7", cwd=with_run)
    two = esd("eval", "together", "--json", "--episodes", "7", cwd=with_run, ranks=2)
    assert two.returncode == 0, two.stderr
    assert json.loads(one.stdout)["variants"] == json.loads(two.stdout)["variants"]


def test_a_function_without_a_seed_is_evaluated_once(place: Path) -> None:
    words = ("--set", "objective.function=sphere", "--set", "objective.values=[]")
    parameters = "objective.parameters={x={shape=[4], initial=1.0}}"
    run = place / "run"
    trained = esd("train", "mine.toml", "--run", "run", *words, "--set", parameters, cwd=place)
    assert trained.returncode == 0, trained.stderr
    found = json.loads(esd("eval", run, "--json", cwd=place).stdout)
    assert (found["episodes"], len(found["variants"]), found["env"]) == (1, 1, "sphere")
    shown = esd("eval", run, cwd=place).stdout.splitlines()
    assert shown[0].endswith("sphere: best checkpoint, 1 test evaluation, seed 0")
    assert shown[1].split() == ["value", "mean"]
    assert float(shown[2].split()[1]) == pytest.approx(found["mean"], rel=1e-5)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["episodes"] == 8 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--env", "CartPole-v1"],
            "CartPole-v1: not supported for the run of an objective; --env, --set and --variant are for policies "
            "in environments",
        ),
        (
            ["--set", "env.max_steps=3"],
            "env.max_steps=3: not supported for the run of an objective",
        ),
        (["--variant", "drag"], "drag: not supported for the run of an objective"),
        (["--trace", "x.safetensors"], "--trace x.safetensors: run is the run of an objective"),
        (
            ["--rules", "random"],
            "--rules random: run is the run of an objective, which has no policy; leave this option out",
        ),
    ],
)
def test_options_of_episodes_are_refused(
    with_run: Path, arguments: list[str], message: str
) -> None:
    result = esd("eval", "run", *arguments, cwd=with_run)
    assert result.returncode == 2
    assert result.stderr.startswith(f"esd: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_run_starts_from_another_only_where_h_means_the_same(with_run: Path, place: Path) -> None:
    shutil.copytree(with_run / "run", place / "parent")
    words = ("--from", "parent", "--trust", "--run", "child", "--set", "seed=1")  # it is a copy
    child = esd("train", *words, cwd=place)
    assert child.returncode == 0, child.stderr
    refusals = {
        "objective.parameters.angle.high=2.0": "its parameters are transformed to other bounds",
        "objective.parameters.wing.shape=[5]": "its h has 4 coordinates, this objective has 6",
        "objective={function='sphere', direction='minimize', parameters={a={shape=[4]}}}": (
            "its h was evolved for another objective, whose coordinates have another meaning: compare "
            "objective.parameters with "
        ),
    }
    for setting, message in refusals.items():
        words = ("--from", "parent", "--trust", "--run", "other", "--set", setting)
        result = esd("train", "mine.toml", *words, cwd=place)
        assert result.returncode == 2
        assert result.stderr.startswith(f"esd: --from parent: {message}")
    words = ("--from", "parent", "--trust", "--run", "other")
    other = esd("train", "cartpole", *words, cwd=place)
    assert other.stderr == (
        "esd: --from parent: its h belongs to an objective, this run evolves a policy\n"
    )


def test_groups_of_runs_are_compared_in_their_own_sign(place: Path) -> None:
    for group, rate in (("slow", 0.01), ("fast", 0.1)):
        for seed in (0, 1):
            run = f"{group}-s{seed}"
            words = ("--set", f"es.learning_rate={rate}", "--set", f"seed={seed}")
            assert esd("train", "mine.toml", "--run", run, *words, cwd=place).returncode == 0
            assert esd("eval", run, "--episodes", "5", cwd=place).returncode == 0
    words = ("compare", "slow=slow-s*", "fast=fast-s*")
    compared = esd(*words, cwd=place)
    assert compared.returncode == 0, compared.stderr
    assert "evaluated: best checkpoint, 5 test evaluations, seed 0" in compared.stdout
    assert "steps" not in compared.stdout
    assert "fast differs from slow in es.learning_rate" in compared.stdout
    found = json.loads(esd(*words, "--json", cwd=place).stdout)
    rows = {row["name"]: row for row in found["variants"]}
    means = {name: group["mean"] for name, group in rows["weight"]["groups"].items()}
    assert means["slow"] > means["fast"] >= 0.0
    assert rows["weight"]["tests"]["fast"]["difference"] < 0.0


def test_the_doctor_examines_an_objective(place: Path) -> None:
    fine = esd("doctor", "mine.toml", "--json", cwd=place)
    assert fine.returncode == 0, fine.stdout
    checks = json.loads(fine.stdout)["checks"]
    assert [c["state"] for c in checks if c["section"] == "objective my_sim:drag"] == ["ok"]
    (place / "my_sim.py").write_text("import time\ndef drag(x):\n    return time.time(), 1.0\n")
    impure = esd("doctor", "mine.toml", "--set", "objective.check_at_start=false", cwd=place)
    assert impure.returncode == 1
    assert "for the same parameters and the same seed" in impure.stdout
    (place / "my_sim.py").unlink()
    missing = esd("doctor", "mine.toml", cwd=place)
    assert missing.returncode == 1
    assert "module 'my_sim' can't be imported" in missing.stdout
    assert "Traceback" not in missing.stdout + missing.stderr


def test_the_doctor_notices_that_a_function_has_changed_since_its_run(
    with_run: Path, place: Path
) -> None:
    shutil.copytree(with_run / "run", place / "run")
    assert esd("doctor", "run", "--trust", cwd=place).returncode == 0
    (place / "my_sim.py").write_text(SIMULATION.replace("0.2", "0.3"))
    changed = esd("doctor", "run", "--trust", cwd=place)
    assert changed.returncode == 1
    assert "canary of the run" in changed.stdout


def test_test_functions_are_listed_with_their_text(tmp_path: Path) -> None:
    listed = json.loads(esd("list", "objectives", "--json", cwd=tmp_path).stdout)["objectives"]
    names = [*listed]
    assert names == ["sphere", "rosenbrock", "rastrigin", "rotated_ellipsoid", "noisy_sphere"]
    assert all(len(text.split()) > 4 for text in listed.values())
    table = esd("list", "objectives", cwd=tmp_path).stdout
    assert all(f"\n  {name} " in table for name in names)
    settings = json.loads(esd("list", "settings", "--json", cwd=tmp_path).stdout)["settings"]
    assert "objective.function" in settings
    assert "objective.parameters.<name>.bounds" in settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.function=my_sim:darg", "no 'darg' in it, did you mean 'drag'?"),
        ("objective.function=nowhere:drag", "module 'nowhere' can't be imported"),
        ("objective.direction=small", "expected minimize or maximize"),
        ('objective.values=["drag"]', "returned a dict with keys ['drag', 'weight'], expected"),
        ("env.id=CartPole-v1", "env: not supported with an objective"),
        ("batch_members=8", "batch_members: not supported with an objective"),
        ("objective.parameters.wing.shape=[2,2]", ""),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(place: Path, setting: str, message: str) -> None:
    if not message:  # a shape that the function doesn't expect shows in what it does
        (place / "my_sim.py").write_text("def drag(x, seed):\n    return x['wing'][7], 1.0\n")
        message = "at the initial parameters: raised IndexError: "
    result = esd("train", "mine.toml", "--set", setting, cwd=place)
    (line,) = result.stderr.splitlines()
    assert line.startswith("esd: ")
    assert message in line
    assert result.returncode == 2
    assert not (place / "runs").exists()


def test_a_function_that_fails_on_all_ranks_gives_one_line(place: Path) -> None:
    (place / "my_sim.py").write_text("def drag(x, seed):\n    return float('nan'), 1.0\n")
    result = esd("train", "mine.toml", cwd=place, ranks=2)
    lines = list(messages(result.stderr.splitlines()))
    assert lines == [
        "esd: objective.function = 'my_sim:drag', at the initial parameters: returned drag = nan, expected a finite "
        "number"
    ]
    assert "Traceback" not in result.stderr
    assert result.returncode != 0
    assert not (place / "runs").exists()


def test_members_that_fail_on_ranks_neither_hang_nor_end_a_run(place: Path) -> None:
    text = """
import time

def drag(x, seed):
    if x["wing"][0] > 0.52:
        time.sleep(100.0)
    if x["wing"][1] > 0.6:
        raise ValueError("no such wing")
    return float(x["wing"].sum()), 1.0
"""
    (place / "my_sim.py").write_text(text)
    words = ("--set", "objective.max_seconds=0.2", "--set", "run.max_failed_share=1.0")
    together = esd("train", "mine.toml", "--run", "run", *words, cwd=place, ranks=2)
    assert together.returncode == 0, together.stderr
    lines = [line for line in together.stderr.splitlines() if "counts as failed" in line]
    assert lines
    assert len(lines) <= 2 * 6  # one per rank and generation
    shown = [
        json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sum(line["failed_members"] for line in shown) > 0


def test_a_shipped_objective_trains_by_its_name(tmp_path: Path) -> None:
    words = ("--set", "generations=3", "--set", "run.center_every=1")
    result = esd("train", "rosenbrock", *words, cwd=tmp_path, ranks=2)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "rosenbrock-s0" / "DONE.json").exists()


TALKATIVE = """
import os
import subprocess

print("imported")

def drag(x, seed):
    print("called")
    subprocess.run(["echo", "from a program"])
    os.chdir("/")
    return {"drag": x["angle"] ** 2, "weight": 1.0}
"""


@pytest.mark.parametrize("ranks", [0, 2])
def test_json_is_alone_on_stdout_and_the_run_in_its_folder_whatever_the_function_does(
    tmp_path: Path, ranks: int
) -> None:
    furnished(tmp_path)
    (tmp_path / "my_sim.py").write_text(TALKATIVE)
    for words in (
        ("train", "mine.toml", "--run", "run", "--set=generations=2"),
        ("eval", "run", "--episodes", "2"),
        ("doctor", "mine.toml"),
    ):
        result = esd(*words, "--json", cwd=tmp_path, ranks=ranks)
        assert isinstance(json.loads(result.stdout), dict), result.stdout
        for text in ("imported", "called", "from a program"):
            assert text in result.stderr
    assert (tmp_path / "run" / "DONE.json").exists()
