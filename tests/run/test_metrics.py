"""metrics.jsonl: whatever happens to it, what the journal knows comes back, and totals never run back."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esd.commands.runs_table import rows_of
from esd.commands.show import _describe
from esd.errors import NotWritableError
from esd.evolution.records import Records, Status
from esd.run import checkpoint, metrics
from esd.run.folder import RunFolder
from tests.helpers.configs import objective, small
from tests.helpers.training import from_journal, trained

KNOWN = (
    "generation",
    "return_mean",
    "return_std",
    "return_min",
    "return_max",
    "center_return",
    "failed_members",
    "env_steps",
    "episodes",
)
CLOCK = ("generation_seconds", "ranks", "idle_share", "steps_per_second")
VARIANTS = 'env.variants=[{name="a", kwargs={}}, {name="b", kwargs={sutton_barto_reward=true}}]'
CONFIGS = {
    "policy": small("cartpole", "generations=14", VARIANTS),
    "objective": objective("noisy_sphere", "generations=14"),
}


@pytest.fixture(scope="module", params=CONFIGS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 14 generations and a last center."""
    run = tmp_path_factory.mktemp("whole") / "run"
    trained(CONFIGS[request.param], run)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def lines_of(run: Path) -> list[dict[str, Any]]:
    """As they stand in the file."""
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def known(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the journal knows, too."""
    return [
        {k: v for k, v in line.items() if k in KNOWN or k.startswith(("return_mean.", "center_"))}
        for line in lines
    ]


def replaced(lines: list[bytes], number: int, text: bytes) -> list[bytes]:
    return [*lines[: number - 1], text, *lines[number:]]


def edited(lines: list[bytes], number: int, **changes: Any) -> list[bytes]:
    line = json.loads(lines[number - 1]) | changes
    return replaced(lines, number, json.dumps(line).encode() + b"\n")


Lines = list[bytes]
# by name: the damage, how many lines lose what only the clock knew, and what the warning says
DAMAGES: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "a spoiled line": (lambda x: replaced(x, 4, b"{spoiled\n"), 1, "line 4 not a line of metrics; generation 3 rebuilt"),  # noqa: E501
    "a removed line": (lambda x: x[:3] + x[4:], 1, "generation 3 rebuilt"),
    "several": (lambda x: x[:3] + x[5:8] + x[9:], 3, "generations 3 to 4, 8 rebuilt"),
    "not UTF-8": (lambda x: replaced(x, 4, b"\xff\xfe\n"), 1, "line 4 not a line"),
    "no object": (lambda x: replaced(x, 4, b"[1, 2]\n"), 1, "line 4 not a line"),
    "no generation": (lambda x: replaced(x, 4, b'{"env_steps": 3}\n'), 1, "line 4 not a line"),
    "strings": (lambda x: edited(x, 4, env_steps="500"), 1, "line 4 not a line"),
    "lists": (lambda x: edited(x, 4, seconds=[1]), 1, "line 4 not a line"),
    "booleans": (lambda x: edited(x, 4, generation=True), 1, "line 4 not a line"),
    "negative": (lambda x: edited(x, 4, seconds=-1.0), 1, "line 4 not a line"),
    "infinite": (lambda x: edited(x, 4, seconds=float("inf")), 1, "line 4 not a line"),
    "a newer schema": (lambda x: edited(x, 4, schema=99), 1, "line 4 not a line of metrics, or of a newer schema than 2: it was written by a newer version of esd"),  # noqa: E501
    "too long a number": (lambda x: replaced(x, 4, b'{"generation": ' + b"9" * 5000 + b"}\n"), 1, "line 4"),
    "nested": (lambda x: replaced(x, 4, b"[" * 200_000 + b"\n"), 1, "line 4 not a line"),
    "a huge line": (lambda x: replaced(x, 4, b"x" * 3_000_000 + b"\n"), 1, "line 4 not a line"),
    "other numbers": (lambda x: edited(x, 4, env_steps=1), 0, "generation 3 corrected"),
    "other returns": (lambda x: edited(x, 4, return_mean=1e6), 0, "generation 3 corrected"),
    "another center": (lambda x: edited(x, 5, center_return=1e6), 0, "generation 4 corrected"),
    "time runs back": (lambda x: edited(x, 4, seconds=0.0), 0, "generation 3 corrected"),
    "twice": (lambda x: x[:6] + x[2:], 0, "generations 2 to 5 more than once"),
    "in another order": (lambda x: [x[2], x[1], x[0], *x[3:]], 0, "out of order"),
    "cut": (lambda x: x[:5], 9, "generations 5 to 13 rebuilt"),
    "empty": (lambda x: [], 14, "generations 0 to 13 rebuilt"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_journal_knows_is_rebuilt_from_it(
    damage: str, run: Path, whole: Path, tmp_path: Path
) -> None:
    change, lost, words = DAMAGES[damage]
    file = run / "metrics.jsonl"
    with file.open("rb") as original:
        file_lines = original.readlines()
    file.write_bytes(b"".join(change(file_lines)))
    damaged, notes = file.read_bytes(), list[str]()
    folder = RunFolder(run)
    lines = folder.metrics_lines(folder.config(), notes.append)
    assert file.read_bytes() == damaged  # a reader changes nothing
    assert known(lines) == known(lines_of(whole))
    assert len(notes) == 1
    assert words in notes[0]
    assert len(notes[0]) < 1_000
    # the last line has no warning: a process may die before it is written
    without_clock = [line["generation"] for line in lines[:-1] if line["ranks"] is None]
    assert len(without_clock) == lost
    for clock in ("seconds", "core_seconds"):
        assert [line[clock] for line in lines] == sorted(line[clock] for line in lines)
    for line in lines:
        assert all((line[name] is None) == (line["ranks"] is None) for name in CLOCK)


@pytest.mark.parametrize("damage", ["a spoiled line", "cut", "empty", "twice"])
def test_a_resume_puts_the_file_right_and_counts_on(
    damage: str, run: Path, whole: Path, tmp_path: Path
) -> None:
    import dataclasses

    config = dataclasses.replace(RunFolder(run).config(), generations=16)
    reference = Path(shutil.copytree(whole, tmp_path / "reference"))
    wanted = trained(config, reference)
    file = run / "metrics.jsonl"
    with file.open("rb") as original:
        file_lines = original.readlines()
    file.write_bytes(b"".join(DAMAGES[damage][0](file_lines)))
    assert trained(config, run).state.sha256() == wanted.state.sha256()
    assert known(lines_of(run)) == known(lines_of(reference))
    assert [line["generation"] for line in lines_of(run)] == list(range(17))
    assert from_journal(run).sha256() == wanted.state.sha256()
    done = [json.loads((path / "DONE.json").read_text()) for path in (run, reference)]
    assert done[0]["env_steps"] == done[1]["env_steps"]
    notes = list[str]()
    RunFolder(run).metrics_lines(config, notes.append)
    assert not notes  # what was put right is not reported again


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: None]
)
def test_another_kind_of_file_is_passed_over(
    make: Callable[[Path], None], run: Path, whole: Path
) -> None:
    (run / "metrics.jsonl").unlink()
    make(run / "metrics.jsonl")
    folder, notes = RunFolder(run), list[str]()
    lines = folder.metrics_lines(folder.config(), notes.append)
    assert known(lines) == known(lines_of(whole))
    assert len(notes) == 1
    assert metrics.read(run / "metrics.jsonl") == []


def test_a_line_that_a_crash_kept_from_being_written_is_no_news(run: Path, whole: Path) -> None:
    """The journal has the last generation, the metrics a part of its line or nothing of it."""
    file = run / "metrics.jsonl"
    text = file.read_bytes()
    last = text.rindex(b"\n", 0, -1) + 1
    folder = RunFolder(run)
    for cut in (last, last + 20):
        notes = list[str]()
        file.write_bytes(text[:cut])
        assert known(folder.metrics_lines(folder.config(), notes.append)) == known(lines_of(whole))
        assert not notes


def test_the_last_line_of_a_run_without_centers_stays(tmp_path: Path) -> None:
    """It has nothing but the time: the journal has no record for it."""
    trained(small("cartpole", "generations=2", "run.center_every=0"), tmp_path / "run")
    folder, notes = RunFolder(tmp_path / "run"), list[str]()
    lines = folder.metrics_lines(folder.config(), notes.append)
    assert lines == lines_of(tmp_path / "run")
    assert [line["generation"] for line in lines] == [0, 1, 2]
    assert not notes
    metrics.store(tmp_path / "run/metrics.jsonl", [*lines[:2], lines[2] | {"env_steps": 1}])
    assert folder.metrics_lines(folder.config(), notes.append) == lines[:2], "totals of another run"


def test_a_run_that_was_extended_has_no_line_of_the_center_alone_in_its_middle(
    tmp_path: Path,
) -> None:
    """The journal keeps that record; the metrics of the extended run are those of one that was never stopped."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    trained(small("cartpole", "generations=6"), once)
    trained(small("cartpole", "generations=3"), twice)
    trained(small("cartpole", "generations=6"), twice)
    assert known(lines_of(twice)) == known(lines_of(once))
    folder, notes = RunFolder(twice), list[str]()
    assert known(folder.metrics_lines(folder.config(), notes.append)) == known(lines_of(once))
    assert not notes


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_happens_to_the_file_the_totals_are_those_of_the_journal(
    data: st.DataObject, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    if not run.exists():
        shutil.copytree(whole, run)
    damaged = bytearray((whole / "metrics.jsonl").read_bytes())
    a = data.draw(st.integers(0, len(damaged)))
    b = data.draw(st.integers(a, min(len(damaged), a + 2000)))
    damaged[a:b] = data.draw(
        st.sampled_from([b"", bytes(b - a), b"\n", bytes(damaged[a:b]) * 2])
        | st.binary(min_size=1, max_size=8)
    )
    (run / "metrics.jsonl").write_bytes(bytes(damaged))
    folder = RunFolder(run)
    lines = folder.metrics_lines(folder.config(), lambda text: None)
    assert [line["generation"] for line in lines] == list(range(15))
    assert [line["env_steps"] for line in lines] == [line["env_steps"] for line in lines_of(whole)]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_centers_are_compared_with_those_of_as_many_episodes() -> None:
    best, config = metrics.BestCenter(), small()
    for generation, (episodes, center) in enumerate(
        [(1, 5.0), (1, 9.0), (4, 7.0), (0, 0.0), (4, 7.0), (4, 6.0)]
    ):
        records = Records(2, episodes, 0)
        for row in range(2, 2 + episodes):
            records.write(row, returns=[center], steps=1, episodes=1, status=Status.DONE)
        assert best.add(config, generation, records) == (generation in (0, 1, 2, 4))
    assert (best.center_return, best.generation, best.episodes) == (7.0, 4, 4)


def test_the_best_return_is_that_of_the_best_checkpoint_whatever_became_of_its_line(
    tmp_path: Path,
) -> None:
    """The line of the last center is gone from a run that is extended, and its number of episodes may change."""
    run = tmp_path / "run"
    trained(small("cartpole", "generations=1", "run.center_every=0"), run)
    trained(small("cartpole", "generations=3", "run.center_every=2"), run)
    trained(small("cartpole", "generations=4", "run.center_every=0"), run)
    folder = RunFolder(run)
    kept = checkpoint.load(folder.best_file)
    assert kept.state.generation == 3, "whose line has no center any more"
    shown = _describe(folder, None)["best_center_return"]
    assert shown == kept.center_return
    assert rows_of(tmp_path, print)[0]["best_center_return"] == shown
    done = folder.done()
    assert done is not None
    assert done["best_center_return"] == shown
    folder.best_file.unlink()
    centers = [line["center_return"] for line in lines_of(run)]
    assert _describe(folder, None)["best_center_return"] == max(c for c in centers if c is not None)


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """It is written again, and would be behind its own beginning."""
    file = tmp_path / "metrics.jsonl"
    size, _ = metrics.append(file, {"generation": 0}, 0)
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))
    try:
        with pytest.raises(NotWritableError):
            metrics.append(file, {"generation": 1}, size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert file.read_text() == '{"generation": 0}\n'


def test_returns_near_the_largest_number_are_no_damage(tmp_path: Path) -> None:
    """Their mean and their deviation are larger than any number: null, as in the file."""
    huge = objective("tests.helpers.user_functions:huge", "es.shaping=centered_rank")
    trained(huge, tmp_path / "run")
    folder, notes = RunFolder(tmp_path / "run"), list[str]()
    lines = folder.metrics_lines(folder.config(), notes.append)
    assert lines == lines_of(tmp_path / "run")
    assert lines[0]["return_mean"] is lines[0]["return_std"] is None
    assert lines[0]["return_max"] > 1e308
    assert not notes


def test_a_zero_of_an_objective_that_is_minimized_is_not_minus_zero() -> None:
    """A line, and the progress line made of it, would say -0."""
    records = Records(2, 1, 0)
    for row in range(3):
        records.write(row, returns=[-0.0], steps=1, episodes=1, status=Status.DONE)
    line = metrics.of_records(objective(), records)
    for name in ("return_mean", "return_min", "return_max", "center_return"):
        assert (line[name], math.copysign(1.0, line[name])) == (0.0, 1.0), name
