"""What a run survives: damaged files, a full disk, a second training beside it, signals and kills."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.shell import TINY, command, contents, environment, esd, wait_for_generations


def cut_the_newest_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "generation-00000003.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_the_best_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "best.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def bring_a_foreign_checkpoint(run: Path) -> None:
    esd("train", *TINY, "--set", "seed=5", "--run", run.parent / "other", cwd=run.parent)
    path = run / "checkpoints" / "generation-00000003.safetensors"
    shutil.copy(run.parent / "other" / "checkpoints" / path.name, path)


def bring_a_foreign_journal(run: Path) -> None:
    esd("train", *TINY, "--set", "seed=5", "--run", run.parent / "other", cwd=run.parent)
    shutil.copy(run.parent / "other" / "journal.bin", run / "journal.bin")


def bring_something_else_as_journal(run: Path) -> None:
    (run / "journal.bin").write_bytes(b"PK" + bytes(500))


def cut_the_journal_before_its_checkpoints(run: Path) -> None:
    path = run / "journal.bin"
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


def cut_the_journal_in_its_header(run: Path) -> None:
    path = run / "journal.bin"
    path.write_bytes(path.read_bytes()[:40])


def damage_the_journal_in_the_middle(run: Path) -> None:
    path = run / "journal.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def spoil_the_config(run: Path) -> None:
    (run / "config.toml").write_text("population = ")


@pytest.mark.parametrize(
    ("damage", "arguments", "words"),
    [
        (lambda run: None, ["--set", "es.sigma=0.3"], ["es.sigma = 0.3", "0.2", "--fresh"]),
        (
            lambda run: None,
            ["--set", "env.kwargs.sutton_barto_reward=true"],
            ["sutton_barto_reward"],
        ),
        (lambda run: None, ["cartpole-static"], ["policy.kind"]),
        (bring_a_foreign_checkpoint, [], ["another run"]),
        (bring_a_foreign_journal, [], ["journal.bin"]),
        (bring_something_else_as_journal, [], ["not a journal"]),
        (cut_the_journal_before_its_checkpoints, [], ["cut short"]),
        (cut_the_journal_in_its_header, [], ["cut short or damaged"]),
        (damage_the_journal_in_the_middle, [], ["damaged at byte", "truncate -s"]),
        (spoil_the_config, [], ["config.toml"]),
    ],
)
def test_a_run_that_cannot_be_resumed_is_refused_and_left_as_it_is(
    damage: Callable[[Path], None], arguments: list[str], words: list[str], run: Path
) -> None:
    damage(run)
    before = contents(run)
    result = esd("train", *arguments, "--run", run, "--set", "generations=5", cwd=run.parent)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert contents(run) == before


def test_a_damaged_checkpoint_costs_nothing_because_the_journal_has_it_all(
    run: Path, tmp_path: Path
) -> None:
    whole = json.loads(esd("show", run, "--json", cwd=tmp_path).stdout)["h_sha256"]
    cut_the_newest_checkpoint(run)
    result = esd("train", "--run", run, "--set", "generations=4", "--json", cwd=tmp_path)
    assert result.returncode == 0
    assert "rebuilt from the journal" in result.stderr
    assert (
        json.loads(esd("show", run, "--generation", "3", "--json", cwd=tmp_path).stdout)["h_sha256"]
        == whole
    )
    shutil.rmtree(run / "checkpoints")
    shown = json.loads(esd("show", run, "--json", cwd=tmp_path).stdout)
    assert shown["h_sha256"] == json.loads(result.stdout)["h_sha256"]


@pytest.mark.parametrize("which", ["best", "last"])
def test_evaluating_a_damaged_checkpoint_says_so_and_rebuilds_its_state(
    which: str, run: Path
) -> None:
    words = ("eval", run, "--checkpoint", which, "--episodes", "2", "--json")
    whole = esd(*words, cwd=run.parent)
    assert whole.stderr == ""
    cut_the_newest_checkpoint(run)
    damage_the_best_checkpoint(run)
    result = esd(*words, cwd=run.parent)
    assert result.returncode == 0
    assert "damaged" in result.stderr
    assert "rebuilt from the journal" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert json.loads(result.stdout)["variants"] == json.loads(whole.stdout)["variants"]


def test_a_torn_last_record_is_dropped_and_evaluated_again(run: Path, tmp_path: Path) -> None:
    """A crash while the journal was being written: the checkpoints are older than what is torn."""
    whole = json.loads((run / "DONE.json").read_text())["h_sha256"]
    (run / "DONE.json").unlink()
    (run / "checkpoints" / "generation-00000003.safetensors").unlink()
    journal = (run / "journal.bin").read_bytes()
    # the last record is the center's alone (16 rows would be more); cut into the third generation's
    for cut in (1, 400, 1800):
        (run / "journal.bin").write_bytes(journal[:-cut])
        result = esd("train", "--run", run, "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["h_sha256"] == whole
        assert (run / "journal.bin").read_bytes() == journal
        (run / "DONE.json").unlink()
        (run / "checkpoints" / "generation-00000003.safetensors").unlink()


def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    """Files may not grow past a limit (RLIMIT_FSIZE), which fails writes as a full disk does."""
    whole = json.loads(esd("train", *TINY, "--json", "--run", "whole", cwd=tmp_path).stdout)
    limit = (tmp_path / "whole" / "journal.bin").stat().st_size * 2 // 3
    script = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)"
    limited = command("train", *TINY, "--set=run.unsaved_generations=0", "--json", "--run", "run")
    limited[1:3] = [
        "-c",
        f"{script}; sys.argv[0] = 'esd'; runpy.run_module('esd', run_name='__main__')",
        str(limit),
    ]
    result = subprocess.run(
        limited,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 75, result.stderr
    assert "Traceback" not in result.stderr
    assert "can't be written" in result.stderr.splitlines()[-1]
    resumed = esd("train", "--run", "run", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["h_sha256"] == whole["h_sha256"]


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    first = subprocess.Popen(
        command("train", "cartpole-static", "--run", "run", "--set", "generations=10000"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_generations(tmp_path / "run", 1)
        second = esd("train", "--run", "run", cwd=tmp_path)
        assert second.returncode == 2
        assert "another esd" in second.stderr
    finally:
        first.kill()
        first.wait()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_generation_with_75_and_the_run_goes_on_from_there(
    number: signal.Signals, tmp_path: Path
) -> None:
    settings = ("--set", "population=6", "--set", "env.max_steps=50", "--set", "generations=100000")
    process = subprocess.Popen(
        command("train", "--run", "run", *settings),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_generations(tmp_path / "run", 3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "to continue: esd train --run run" in output
    generation = json.loads(esd("show", "run", "--json", cwd=tmp_path).stdout)["generation"]
    further = f"generations={generation + 2}"
    resumed = esd("train", "--run", "run", "--set", further, "--json", cwd=tmp_path)
    whole = esd("train", "--run", "whole", *settings, "--set", further, "--json", cwd=tmp_path)
    assert json.loads(resumed.stdout)["h_sha256"] == json.loads(whole.stdout)["h_sha256"]


def test_a_run_killed_again_and_again_ends_at_the_same_h(tmp_path: Path) -> None:
    """Law 6: SIGKILL at any moment loses at most the generation under way."""
    settings = ("--set", "population=6", "--set", "env.max_steps=50", "--set", "generations=40")
    whole = esd("train", "--run", "whole", *settings, "--json", cwd=tmp_path)
    for kept in (1, 9, 20):
        process = subprocess.Popen(
            command("train", "--run", "run", *settings),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        wait_for_generations(tmp_path / "run", kept)
        process.kill()
        process.wait()
    result = esd("train", "--run", "run", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["h_sha256"] == json.loads(whole.stdout)["h_sha256"]
