"""What is left of a run whose journal is damaged or lost, and that nothing is ever trained over it."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esd.commands.console import Quiet
from esd.commands.show import _describe
from esd.config.settings import Config
from esd.errors import RunError, UsageError
from esd.evaluation import of_run
from esd.evaluation.groups import read_groups
from esd.evolution.state import RunState
from esd.mpi.comm import Alone, JobFailedError
from esd.run import checkpoint, journal
from esd.run.checkpoint import Checkpoint
from esd.run.folder import RunFolder
from esd.training.loop import Ending
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import small
from tests.helpers.shell import contents
from tests.helpers.training import from_journal, trained

GENERATIONS = 12


def config_of(generations: int = GENERATIONS) -> Config:
    """A run of which every generation changes h, with checkpoints of generations 8 and 12 in the end."""
    return small(
        "cartpole", f"generations={generations}", "run.checkpoint_every=4", "es.optimizer=adam"
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be copied."""
    run = tmp_path_factory.mktemp("whole") / "run"
    trained(config_of(), run)
    assert len({from_journal(run, g).h_sha256() for g in (0, 5, 8, 12)}) == 4
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def call(notes: list[str] | None = None, **request: object) -> Ending:
    """``esd train`` behind its command line; what it says at its planning goes to ``notes``."""
    plan = make_plan(TrainRequest(**request), (notes if notes is not None else []).append)  # type: ignore[arg-type]
    return train(Alone(), plan, StopRequest(), Quiet())


def refusal(**request: object) -> str:
    """Why a call is refused."""
    with pytest.raises(UsageError) as caught:
        call(**request)
    check_message(caught.value)
    return str(caught.value)


def damage(run: Path, generation: int) -> int:
    """Flip a bit in a generation's record; returns where the record begins."""
    file = run / "journal.bin"
    position = journal.scan(file).positions[generation]
    data = bytearray(file.read_bytes())
    data[position + 100] ^= 1
    file.write_bytes(bytes(data))
    return position


def keep_only(run: Path, name: str) -> None:
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != name:
            path.unlink()


def check_message(error: UsageError) -> None:
    """A line that can be read."""
    assert len(str(error)) <= 1_000
    assert str(error).isprintable()


WITHOUT_JOURNAL: dict[str, Callable[[Path], None]] = {
    "everything else": lambda run: None,
    "only the config": lambda run: keep_only(run, "config.toml"),
    "no config": lambda run: (run / "config.toml").unlink(),
    "no checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "only metrics": lambda run: keep_only(run, "metrics.jsonl"),
}


@pytest.mark.parametrize("left", WITHOUT_JOURNAL)
@pytest.mark.parametrize(
    "request_",
    [{}, {"experiment": "cartpole"}, {"settings": ["generations=3"]}, {"fresh": True}],
    ids=["plain", "experiment", "set", "fresh"],
)
def test_a_lost_journal_is_refused_and_nothing_is_written(
    left: str, request_: dict[str, object], run: Path
) -> None:
    (run / "journal.bin").unlink()
    WITHOUT_JOURNAL[left](run)
    before = contents(run)
    text = refusal(run=run, **request_)
    if request_ == {"fresh": True}:
        assert "--yes" in text
    else:
        assert "journal.bin is missing" in text
        assert "--fresh --yes" in text
        assert ("--from" in text) == (left in ("everything else", "no config"))
    assert contents(run) == before


def test_what_a_lost_journal_leaves_is_erased_if_the_user_says_so(run: Path) -> None:
    (run / "journal.bin").unlink()
    (run / "notes.txt").write_text("mine")
    shutil.copytree(run / "checkpoints", run / "evaluations")
    plan = make_plan(TrainRequest(run=run, fresh=True, yes=True, settings=["generations=1"]), print)
    assert plan.erase
    train(Alone(), plan, StopRequest(), Quiet())
    assert from_journal(run).generation == 1
    assert not (run / "evaluations").exists()
    assert [path.name for path in RunFolder(run).checkpoint_files()] == [
        "generation-00000001.safetensors"
    ]
    assert (run / "notes.txt").read_text() == "mine"


def test_whatever_reads_a_run_refuses_one_without_its_journal(run: Path, tmp_path: Path) -> None:
    import esd

    (run / "journal.bin").unlink()
    for reader in (
        lambda: of_run.load(RunFolder(run), "best", print),
        lambda: RunFolder(run).require_run(),
        lambda: esd.Run(run),
        lambda: esd.resume(run),
        lambda: read_groups([f"a={tmp_path}/*", f"b={tmp_path}/*"]),
    ):
        with pytest.raises(UsageError, match=r"journal\.bin is missing"):
            reader()


@pytest.mark.parametrize("kind", [Path.mkdir, lambda p: p.symlink_to("config.toml")])
def test_something_else_in_place_of_the_journal_is_refused(
    kind: Callable[[Path], None], run: Path
) -> None:
    (run / "journal.bin").unlink()
    kind(run / "journal.bin")
    before = contents(run)
    assert "journal.bin: " in refusal(run=run)
    assert contents(run) == before


def test_a_start_that_was_cut_off_is_started_again_by_the_same_command_alone(
    run: Path, tmp_path: Path
) -> None:
    """A process that dies between the config and the journal's header leaves an empty journal."""
    whole = from_journal(run).h_sha256()
    for name in ("metrics.jsonl", "DONE.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "journal.bin").write_bytes(b"")
    assert "the start of another run in this folder was interrupted" in refusal(
        run=run, settings=["seed=9"]
    )
    with pytest.raises(UsageError, match="is not the folder of a run"):
        RunFolder(run).require_run()
    (tmp_path / "experiment.toml").write_text((run / "config.toml").read_text())
    ending = call(experiment=str(tmp_path / "experiment.toml"), run=run)
    assert ending.state.h_sha256() == whole


def test_an_empty_journal_of_a_run_that_had_begun_is_damaged(run: Path) -> None:
    (run / "journal.bin").write_bytes(b"")
    before = contents(run)
    assert "not a journal" in refusal(run=run)
    assert contents(run) == before


@pytest.mark.parametrize(
    "lost", ["journal", "header", "version", "foreign start", "a record", "the end"]
)
def test_a_new_run_starts_from_the_newest_state_that_can_be_trusted(
    lost: str, run: Path, tmp_path: Path
) -> None:
    last = from_journal(run, GENERATIONS).h
    file = run / "journal.bin"
    if lost == "journal":
        file.unlink()
    elif lost == "a record":
        damage(run, 5)
    elif lost == "the end":
        file.write_bytes(file.read_bytes()[: journal.scan(file).positions[7] + 50])
    else:
        data = bytearray(file.read_bytes())
        data[{"header": 30, "version": 5, "foreign start": 0}[lost]] ^= 1
        file.write_bytes(bytes(data))
    before, notes = contents(run), list[str]()
    call(notes, run=tmp_path / "new", start_from=run, settings=["generations=1"])
    np.testing.assert_array_equal(from_journal(tmp_path / "new", 0).h, last)
    assert any(
        "undamaged state is h_12, of generation-00000012.safetensors" in note for note in notes
    )
    assert contents(run) == before


def test_without_a_newer_checkpoint_that_is_what_stands_before_the_damage(
    run: Path, tmp_path: Path
) -> None:
    h = from_journal(run, 9).h
    damage(run, 9)
    for name in ("generation-00000012", "best"):
        (run / f"checkpoints/{name}.safetensors").unlink()
    notes = list[str]()
    call(notes, run=tmp_path / "new", start_from=run, settings=["generations=1"])
    np.testing.assert_array_equal(from_journal(tmp_path / "new", 0).h, h)
    assert any("undamaged state is h_9, rebuilt from the journal" in note for note in notes)
    shutil.rmtree(run / "checkpoints")
    call(run=tmp_path / "newer", start_from=run, settings=["generations=1"])
    np.testing.assert_array_equal(from_journal(tmp_path / "newer", 0).h, h)


def test_a_damaged_checkpoint_is_not_trusted(run: Path, tmp_path: Path) -> None:
    h = from_journal(run, 8).h
    damage(run, 5)
    newest = run / "checkpoints/generation-00000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    best = RunFolder(run).load_checkpoint(run / "checkpoints/best.safetensors", config_of()).state
    notes = list[str]()
    call(notes, run=tmp_path / "new", start_from=run, settings=["generations=1"])
    if best.generation > 8:
        h = best.h
    np.testing.assert_array_equal(from_journal(tmp_path / "new", 0).h, h)
    assert any("ignored" in note for note in notes)


def test_a_lost_journal_without_a_good_checkpoint_leaves_nothing_to_start_from(
    run: Path, tmp_path: Path
) -> None:
    (run / "journal.bin").unlink()
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"x" * 100)
    text = refusal(run=tmp_path / "new", start_from=run)
    assert "no undamaged checkpoint" in text
    assert not (tmp_path / "new").exists()


def commands_in(text: str) -> dict[str, list[str]]:
    """The words of ``truncate …`` and ``esd train --from …`` as a message has them."""
    cut = text[text.index("truncate -s ") :].partition(")")[0]
    start = text[text.index("esd train --from ") :].partition(" --run NEW")[0]
    return {"truncate": shlex.split(cut), "from": shlex.split(start)}


def test_the_ways_on_that_a_damaged_journal_is_refused_with_all_work(
    run: Path, whole: Path, tmp_path: Path
) -> None:
    at = damage(run, 5)
    before = contents(run)
    text = refusal(run=run, settings=["generations=20"])
    assert f"damaged at byte {at}, in generation 5" in text
    assert "h_12, from generation-00000012.safetensors" in text
    for reader in (
        lambda: of_run.load(RunFolder(run), "last", print),
        lambda: _describe(RunFolder(run), 3),
    ):
        with pytest.raises(UsageError, match="h_12"):
            reader()
    assert contents(run) == before
    commands = commands_in(text)
    call(run=tmp_path / "new", start_from=Path(commands["from"][-1]), settings=["generations=1"])
    np.testing.assert_array_equal(from_journal(tmp_path / "new", 0).h, from_journal(whole).h)
    subprocess.run(commands["truncate"], check=True)
    assert "remove the checkpoints of generations after 5" in refusal(run=run)
    for generation in (8, 12):
        (run / f"checkpoints/generation-{generation:08d}.safetensors").unlink()
    ending = call(run=run, settings=["generations=13"])
    assert ending.state.generation == 13
    assert from_journal(run, 12).sha256() == from_journal(whole).sha256()


def test_a_journal_that_is_damaged_behind_its_checkpoints_is_cut_and_gone_on_with(
    run: Path, whole: Path
) -> None:
    damage(run, 9)
    for name in ("generation-00000012", "best"):
        (run / f"checkpoints/{name}.safetensors").unlink()
    text = refusal(run=run)
    assert "to continue from generation 9" in text
    command = text[text.index("truncate -s ") :].partition(")")[0]
    subprocess.run(shlex.split(command), check=True)
    assert call(run=run).state.sha256() == from_journal(whole).sha256()


def test_a_journal_that_ends_one_generation_before_a_checkpoint_was_cut_short(run: Path) -> None:
    file = run / "journal.bin"
    os.truncate(file, journal.scan(file).positions[GENERATIONS - 1])
    assert "ends before generation 11, but there is a checkpoint of generation 12" in refusal(
        run=run
    )


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_happens_to_the_journal_no_wrong_h_is_shown(
    data: st.DataObject, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    if not run.exists():
        shutil.copytree(whole, run)
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()
    damaged = bytearray((whole / "journal.bin").read_bytes())
    a = data.draw(st.integers(0, len(damaged)))
    b = data.draw(st.integers(a, min(len(damaged), a + 3000)))
    damaged[a:b] = data.draw(
        st.sampled_from([b"", bytes(b - a)]) | st.binary(min_size=1, max_size=8)
    )
    (run / "journal.bin").write_bytes(bytes(damaged))
    folder = RunFolder(run)
    try:
        state = folder.last_state(folder.config(), lambda text: None)
    except UsageError as error:
        check_message(error)
    else:
        assert state.sha256() == from_journal(whole, state.generation).sha256()


def of_another_size(state: RunState) -> RunState:
    """A state with three coordinates more, in every vector."""
    arrays = {
        name: np.append(array, np.zeros(3, array.dtype))
        if name == "h" or name.startswith("moment")
        else array
        for name, array in state.arrays().items()
    }
    return RunState.of_arrays(state.generation, arrays)


def without_its_moments(state: RunState) -> RunState:
    arrays = {k: v for k, v in state.arrays().items() if not k.startswith("moment")}
    return RunState.of_arrays(state.generation, arrays)


@pytest.mark.parametrize("change", [of_another_size, without_its_moments])
def test_a_checkpoint_of_another_size_is_passed_over_by_train(
    change: Callable[[RunState], RunState], run: Path, tmp_path: Path
) -> None:
    wanted = trained(config_of(13), tmp_path / "reference").state
    path = run / "checkpoints/generation-00000012.safetensors"
    good = checkpoint.load(path)
    assert change(good.state).unlike(good.state)
    checkpoint.save(path, Checkpoint(good.identity, change(good.state)))
    assert call(run=run, settings=["generations=13"]).state.sha256() == wanted.sha256()


@pytest.mark.parametrize("how", ["cut", "flipped", "missing", "another run's"])
def test_the_best_state_is_rebuilt_from_the_journal_if_its_checkpoint_is_bad(
    how: str, run: Path
) -> None:
    folder, best = RunFolder(run), run / "checkpoints/best.safetensors"
    good, notes = checkpoint.load(best), list[str]()
    data = bytearray(best.read_bytes())
    data[-5] ^= 1
    if how == "missing":
        best.unlink()
    elif how == "another run's":
        checkpoint.save(best, Checkpoint("another", good.state))
    else:
        best.write_bytes(data[:-7] if how == "cut" else data)
    before = contents(run)
    _, state, which = of_run.load(folder, "best", notes.append)
    assert which == "best"
    assert state.sha256() == good.state.sha256()
    assert f"h_{good.state.generation}, the best one, is rebuilt from the journal" in notes[0]
    assert len(notes) == 1
    assert contents(run) == before


def test_the_last_state_is_rebuilt_from_the_journal_if_all_checkpoints_are_bad(run: Path) -> None:
    folder, notes = RunFolder(run), list[str]()
    wanted = from_journal(run).sha256()
    for path in folder.checkpoint_files():
        path.write_bytes(path.read_bytes()[:-7])
    assert of_run.load(folder, "last", notes.append)[1].sha256() == wanted
    assert len(notes) == 2


def test_a_resume_needs_no_checkpoints_folder(run: Path, tmp_path: Path) -> None:
    wanted = trained(config_of(13), tmp_path / "reference").state
    shutil.rmtree(run / "checkpoints")
    assert call(run=run, settings=["generations=13"]).state.sha256() == wanted.sha256()


def test_a_checkpoint_with_arrays_of_another_type_is_refused(run: Path) -> None:
    import safetensors.numpy

    path = run / "checkpoints/generation-00000012.safetensors"
    good = checkpoint.load(path)
    arrays = good.state.arrays()
    metadata = {
        "format": checkpoint.FORMAT,
        "generation": "12",
        "identity": good.identity,
        "state_sha256": good.state.sha256(),
    }
    wide = {**arrays, "h": arrays["h"].astype(np.float64)}
    path.write_bytes(safetensors.numpy.save(wide, metadata))
    with pytest.raises(UsageError, match="h is float64"):
        checkpoint.load(path)


class Harmful(Quiet):
    """Does something to a run's folder after a generation, as another program might."""

    def __init__(self, harm: Callable[[], None], after: int) -> None:
        """Do it once."""
        self._harm, self._after = harm, after
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def generation(self, report: object, generations: int) -> None:
        """Do it."""
        if report.generation == self._after:  # type: ignore[attr-defined]
            self._harm()


def harmed(run: Path, harm: Callable[[Path], object], after: int) -> Harmful:
    """A training of five generations in which something happens to its folder."""
    reporter = Harmful(lambda: harm(run), after)
    plan = make_plan(TrainRequest("cartpole", run, SHORT), print)
    train(Alone(), plan, StopRequest(), reporter)
    return reporter


SHORT = ["population=6", "env.max_steps=40", "generations=5", "run.checkpoint_every=2"]
HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "journal removed": (lambda run: (run / "journal.bin").unlink(), "was removed"),
    "journal cut": (lambda run: (run / "journal.bin").write_bytes(b""), "was changed"),
    "config removed": (lambda run: (run / "config.toml").unlink(), "config.toml: was removed"),
    "lock removed": (lambda run: (run / "lock").unlink(), "lock: was removed"),
}


@pytest.mark.parametrize("after", [2, 5])
@pytest.mark.parametrize("what", HARMS)
def test_what_another_program_does_to_a_run_ends_it_with_one_line(
    what: str, after: int, tmp_path: Path
) -> None:
    """Also after the last generation, before DONE.json is written."""
    harm, words = HARMS[what]
    with pytest.raises(JobFailedError) as caught:
        harmed(tmp_path / "run", harm, after)
    text = str(caught.value.__cause__)
    assert words in text
    assert caught.value.exit_code == 1
    assert len(text.splitlines()) == 1
    assert not list(tmp_path.rglob("DONE.json"))


@pytest.mark.parametrize(
    "harm",
    [
        lambda run: (run / "config.toml").write_text('population = 7\n[env]\nid = "CartPole-v1"\n'),
        lambda run: (run / "config.toml").write_text("x"),
    ],
)
def test_a_run_ends_with_an_error_if_its_config_is_not_its_own_any_more(
    harm: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(JobFailedError) as caught:
        harmed(tmp_path / "run", harm, 5)
    assert "config.toml" in str(caught.value.__cause__)
    assert not (tmp_path / "run/DONE.json").exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda run: (run / "metrics.jsonl").unlink(),
        lambda run: (run / "metrics.jsonl").write_text("x\n"),
    ],
)
def test_metrics_that_are_lost_in_the_middle_of_a_run_are_rebuilt_at_its_end(
    harm: Callable[[Path], object], tmp_path: Path
) -> None:
    quiet = harmed(tmp_path / "whole", lambda run: None, 1)
    assert [note for note in quiet.notes if "in compiled code" not in note] == []
    reporter = harmed(tmp_path / "run", harm, 2)
    notes = [note for note in reporter.notes if "in compiled code" not in note]
    assert "was removed or changed by another program" in notes[0]
    lines, wanted = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    known = ("generation", "return_mean", "center_return", "env_steps", "episodes")
    assert [[line[k] for k in known] for line in lines] == [
        [line[k] for k in known] for line in wanted
    ]
    assert (tmp_path / "run/DONE.json").exists()


def test_a_start_for_which_the_disk_has_no_more_files_is_one_line_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = small("cartpole-static"), tmp_path / "run"
    mkdir = Path.mkdir

    def without_inodes(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == "checkpoints":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", without_inodes)
    with pytest.raises(JobFailedError) as failed:
        trained(config, run)
    assert isinstance(failed.value.__cause__, RunError)
    assert "checkpoints: can't be written (No space left on device)" in str(failed.value.__cause__)
    monkeypatch.undo()
    assert trained(config, run).finished
