"""``esd train`` as a user calls it: good input, bad input, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from esd.training.plan import TrainRequest, make_plan
from tests.helpers.shell import TINY, command, contents, environment, esd


def test_training_ends_with_0_and_leaves_a_whole_run(finished: Path) -> None:
    run = finished / "runs" / "cartpole-s4"
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "config.toml",
        "provenance.json",
        "journal.bin",
        "metrics.jsonl",
        "checkpoints",
        "DONE.json",
    }
    checkpoints = {p.name for p in (run / "checkpoints").iterdir()}
    assert checkpoints == {
        "best.safetensors",
        "generation-00000002.safetensors",
        "generation-00000003.safetensors",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == [0, 1, 2, 3]
    assert lines[-1]["env_steps"] == sum(
        round(line["steps_per_second"] * line["generation_seconds"]) for line in lines
    )
    (call,) = json.loads((run / "provenance.json").read_text())
    assert call["packages"]["numpy"]
    assert json.loads((run / "DONE.json").read_text())["generation"] == 3


def test_a_finished_run_says_how_to_extend_it_and_changes_nothing(run: Path) -> None:
    before = contents(run)
    result = esd("train", "--run", run, cwd=run.parent)
    assert result.returncode == 0
    assert "finished" in result.stdout
    assert f"esd train --run {run} --set generations=6" in result.stdout
    assert contents(run) == before
    moon = 'env.variants=[{name = "moon", unseen = true}, {name = "earth"}]'
    other = esd("train", "--run", run, "--set", moon, cwd=run.parent)
    assert "'earth' is not in the run" in other.stderr


def test_settings_that_a_finished_run_does_not_take_are_named(run: Path) -> None:
    def answer(*settings: str) -> str:
        return make_plan(TrainRequest(run=run, settings=settings), print).finished

    assert answer().endswith("--set generations=6")
    assert answer("generations=3", "seed=4") == answer()
    assert answer("generations=2", 'run.loggers=["csv"]') == (
        f"{answer()}; not applied, because the run is finished: generations = 2, run.loggers = ['csv']"
    )


def test_unseen_variants_of_a_finished_run_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    bodies = 'env.variants=[{name = "earth"}, {name = "moon", unseen = true}]'
    asked = ("train", *TINY, "--run", "run", "--set")
    assert esd(*asked, bodies, cwd=tmp_path).returncode == 0
    again = esd(*asked, bodies, cwd=tmp_path)
    assert "unseen" not in again.stdout
    other = esd(*asked, bodies.replace("moon", "mars"), cwd=tmp_path)
    assert other.returncode == 0
    assert "unseen variants are stored only if the run continues" in other.stdout


def test_an_extended_run_is_the_same_as_a_long_one(run: Path, tmp_path: Path) -> None:
    extended = esd("train", "--run", run, "--set", "generations=5", "--json", cwd=tmp_path)
    longer = esd("train", *TINY, "--set", "generations=5", "--json", cwd=tmp_path)
    assert json.loads(extended.stdout)["h_sha256"] == json.loads(longer.stdout)["h_sha256"]
    assert json.loads(longer.stdout)["generation"] == 5
    lines = [
        json.loads(line)["generation"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert lines == [0, 1, 2, 3, 4, 5]


def test_json_is_one_object_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    result = esd("train", *TINY, "--json", cwd=tmp_path)
    data = json.loads(result.stdout)
    assert data["finished"] is True
    assert data["generation"] == 3
    assert "generation 0/3" in result.stderr


def test_settings_that_do_nothing_are_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[es]\nbeta1 = 0.5\n")
    words = ("train", "mine.toml", *TINY, "--set", "es.momentum=0.5", "--run", "run", "--json")
    result = esd(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = result.stderr.splitlines()[0]
    assert told == "es.momentum, es.beta1: no effect with es.optimizer = 'sgd'"
    quiet = esd("train", "--run", "run", "--json", cwd=tmp_path)
    assert "no effect" not in quiet.stderr


def test_a_run_starts_from_the_h_of_another_and_can_be_rebuilt_without_it(
    run: Path, tmp_path: Path
) -> None:
    parent = json.loads(esd("show", run, "--json", cwd=tmp_path).stdout)["h_sha256"]
    child = tmp_path / "child"
    result = esd(
        "train", *TINY, "--set", "seed=3", "--from", run, "--run", child, "--json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    shutil.rmtree(run)
    shown = [
        json.loads(esd("show", child, "--json", *more, cwd=tmp_path).stdout)["h_sha256"]
        for more in (("--generation", "0"), ("--generation", "3"))
    ]
    assert shown == [parent, json.loads(result.stdout)["h_sha256"]]


def test_a_run_started_from_another_without_an_experiment_has_its_settings(tmp_path: Path) -> None:
    words = ("--set", "policy.hidden=[5]", "--set", "generations=1", "--run", "parent")
    trained = esd("train", "pendulum", *TINY, *words, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    unnamed = esd("train", "--from", "parent", cwd=tmp_path)
    assert unnamed.returncode == 2
    assert "--from parent: starts a new run" in unnamed.stderr
    words = ("--from", "parent", "--set", "seed=5", "--run", "child")
    child = esd("train", *words, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    settings = [(tmp_path / run / "config.toml").read_text() for run in ("parent", "child")]
    assert settings[0].replace("seed = 4", "seed = 5") == settings[1]
    assert 'id = "Pendulum-v1"' in settings[1]


def test_an_h_of_the_same_size_but_another_order_is_no_start(run: Path, tmp_path: Path) -> None:
    words = ("train", *TINY, "--set", "policy.order=F", "--from", run, "--run", "child")
    result = esd(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert "evolved for another network" in result.stderr
    assert "Traceback" not in result.stderr


def test_fresh_asks_for_yes_before_it_deletes_a_run(run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    before = contents(run)
    refused = esd("train", *TINY, "--run", run, "--fresh", cwd=run.parent)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert contents(run) == before
    done = esd(
        "train",
        *TINY,
        "--run",
        run,
        "--fresh",
        "--yes",
        "--set",
        "seed=9",
        "--json",
        cwd=run.parent,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["h_sha256"] != json.loads(before["DONE.json"][0])["h_sha256"]
    assert (run / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "env.id=CartPole-v9"], ["CartPole-v9"]),
        (["--set", "es.sigm=1"], ["es.sigm", "sigma"]),
        (["--set", "population=7"], ["population = 7", "even"]),
        (["--set", "es.sigma=0"], ["es.sigma = 0", "more than 0"]),
        (["--set", "generations=-3"], ["generations = -3"]),
        (["--set", "seed"], ["key=value"]),
        (
            ["--set", "es.sigma=0", "--set", "population=7", "--set", "ed.x=1"],
            ["sigma", "population", "ed"],
        ),
        (["cartpol"], ["cartpol", "cartpole"]),
        (["nothing.toml"], ["nothing.toml"]),
        (["broken.toml"], ["broken.toml", "TOML"]),
        (["--run", "file"], ["file", "--run"]),
        (["--run", "file/below"], ["file"]),
        (["--run", "occupied"], ["occupied", "not a run"]),
        (["--run", "/proc/run"], ["/proc/run"]),
        (["--from", "occupied"], ["occupied"]),
        (["--set", "policy.kind=tests.helpers.user_code:LackingPolicy"], ["layout"]),
        (
            ["--set", "env.id=esd/DamagedAnt-v0", "--set", "env.kwargs.leg=middle"],
            ["leg = 'middle'", "front_left"],
        ),
        (
            [
                "--set",
                "env.id=Walker2d-v5",
                "--set",
                'env.wrappers=[{id="esd_envs:ChangedBody", kwargs={scale={tors=2.0}}}]',
            ],
            ["ChangedBody", "'tors'", "torso"],
        ),
        (["--flag"], ["--flag"]),
    ],
)
def test_bad_input_is_one_clear_line_and_code_2(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken.toml").write_text("a = = 3")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.tex").write_text("")
    before = contents(tmp_path)
    result = esd("train", *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    if arguments != ["--flag"]:  # those are typer's own, in a box
        assert len(result.stderr.strip().splitlines()) == 1
    assert contents(tmp_path) == before
    assert {p.name for p in tmp_path.iterdir()} == {"file", "broken.toml", "occupied"}


def test_max_hours_stops_with_75_and_target_return_finishes(tmp_path: Path) -> None:
    stopped = esd("train", "--run", "a", "--set", "run.max_hours=1e-9", "--json", cwd=tmp_path)
    assert stopped.returncode == 75
    assert json.loads(stopped.stdout)["reason"] == "max_hours"
    reached = esd(
        "train", "--run", "b", *TINY, "--set", "run.target_return=1", "--json", cwd=tmp_path
    )
    assert reached.returncode == 0
    assert json.loads(reached.stdout) | {"h_sha256": "", "findings": []} == {
        "run": "b", "reason": "target_return", "finished": True, "generation": 1,
        "h_sha256": "", "findings": [],
    }  # fmt: skip
    again = esd("train", "--run", "b", cwd=tmp_path)
    assert "raise run.target_return" in again.stdout


def test_too_many_members_without_a_finite_fitness_stop_the_run_with_the_reason(
    tmp_path: Path,
) -> None:
    settings = (
        "--set",
        "env.id=tests.helpers.user_code:Failing-v0",
        "--set",
        "es.common_random_numbers=none",
    )
    lenient = ("--set", "run.max_failed_share=1.0")
    tolerated = esd("train", "--run", "a", *TINY, *settings, *lenient, "--json", cwd=tmp_path)
    assert tolerated.returncode == 0, tolerated.stderr
    assert "without a finite fitness" in tolerated.stderr
    assert (
        "counts as failed: env.id = 'tests.helpers.user_code:Failing-v0', step 3: the reward is nan"
        in tolerated.stderr
    )
    strict = ("--set", "run.max_failed_share=0.1")
    stopped = esd("train", "--run", "b", *TINY, *settings, *strict, cwd=tmp_path)
    assert stopped.returncode == 1
    assert "of 6 members have a NaN or infinite fitness" in stopped.stderr
    assert len(stopped.stderr.strip().splitlines()) == 2
    assert "The environment returned what was not finite, as reported above: fix" in stopped.stderr
    assert "policy.normalization" not in stopped.stderr
    always = ("--set", "env.kwargs.share=1.0")
    refused = esd("train", "--run", "c", *TINY, *settings, *always, cwd=tmp_path)
    assert refused.returncode == 2
    assert (
        "step 3: the reward is nan. No episode in the check had only finite numbers"
        in refused.stderr
    )
    assert not (tmp_path / "c").exists()


def test_the_variants_without_a_finite_fitness_are_named(tmp_path: Path) -> None:
    (tmp_path / "bodies.toml").write_text(
        """
        [env]
        id = "tests.helpers.user_code:Failing-v0"
        kwargs = { share = 0.0 }
        [[env.variants]]
        name = "sound"
        [[env.variants]]
        name = "broken"
        kwargs = { share = 0.9 }
        """
    )
    stopped = esd("train", "bodies.toml", *TINY, cwd=tmp_path)
    assert stopped.returncode == 1
    assert "6 of 6 members have a NaN or infinite fitness (on 'broken' (6)), more" in stopped.stderr
    assert "Failing-v0', variant 'broken', step 3: the reward is nan" in stopped.stderr


def test_an_impure_environment_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = ("--set", "env.id=tests.helpers.user_code:Leaky-v0")
    refused = esd("train", *TINY, *settings, cwd=tmp_path)
    assert refused.returncode == 1
    assert "env.rebuild" in refused.stderr
    assert not (tmp_path / "runs").exists()
    for more in ("env.rebuild=always", "run.allow_drift=true"):
        allowed = esd("train", *TINY, *settings, "--set", more, "--run", more, cwd=tmp_path)
        assert allowed.returncode == 0


def test_a_network_too_large_for_any_memory_is_one_clear_line(tmp_path: Path) -> None:
    result = esd("train", *TINY, "--set", "policy.hidden=[20000000,20000000]", cwd=tmp_path)
    assert result.returncode == 2
    assert "a network of at least 400,000,040,000,000 weights does not fit into" in result.stderr
    assert not (tmp_path / "runs").exists()
    assert result.stderr.count("\n") == 1


def test_help_and_version_answer(tmp_path: Path) -> None:
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["show", "--help"],
        ["list", "--help"],
    ):
        assert "Usage" in esd(*arguments, cwd=tmp_path).stdout
    assert esd("--version", cwd=tmp_path).stdout.startswith("esd ")


def test_help_imports_neither_mpi_nor_torch_nor_numba(tmp_path: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from esd.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([m for m in ('mpi4py', 'torch', 'numba', 'numpy', 'gymnasium') if m in sys.modules])"
    )
    words = command()
    words[1:] = ["-c", script]
    result = subprocess.run(
        words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_an_update_that_overflows_ends_the_run_and_keeps_the_generation_before(
    tmp_path: Path,
) -> None:
    enormous = (
        "--set",
        'env.wrappers=[{id = "tests.helpers.user_code:Doubled", kwargs = {factor = 1e39}}]',
    )
    result = esd("train", *TINY, *enormous, "--set", "es.shaping=raw", "--run", "run", cwd=tmp_path)
    assert result.returncode == 1
    assert "the update made h infinite or NaN" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert json.loads(esd("show", "run", "--json", cwd=tmp_path).stdout)["generation"] == 0
