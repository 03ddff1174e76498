"""A run's folder that is trained in: what it is not taken for after another process was in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.errors import RunError, UsageError
from esd.run.training_folder import TrainingFolder
from tests.helpers.written_runs import written


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[TrainingFolder]:
    """A run of two generations."""
    folder = TrainingFolder(written(tmp_path / "run-s0"))
    yield folder
    folder.unlock()


def test_a_run_that_was_begun_in_the_meantime_is_not_begun_again(folder: TrainingFolder) -> None:
    before = folder.journal_file.read_bytes()
    with pytest.raises(UsageError, match="another esd process started a run in this folder"):
        folder.create(folder.config(), {}, erase=False)
    assert folder.journal_file.read_bytes() == before


@pytest.mark.parametrize("planned", [-1, 1])
def test_a_journal_of_another_size_than_when_the_call_was_planned_is_refused(
    planned: int, folder: TrainingFolder
) -> None:
    size = folder.journal_file.stat().st_size
    with pytest.raises(UsageError, match="another esd process trained in this folder"):
        folder.reopen(folder.config(), {}, size + planned)
    folder.unlock()
    folder.reopen(folder.config(), {}, size)


def test_a_run_is_complete_only_if_its_journal_ends_with_a_whole_generation(
    folder: TrainingFolder,
) -> None:
    folder.lock()
    folder.checkpoints.mkdir()
    folder.checkpoint_file(2).touch()
    folder.check_complete(folder.config(), 2)
    with folder.journal_file.open("ab") as file:
        file.write(folder.journal_file.read_bytes()[-9:])
    with pytest.raises(RunError, match="has 2 whole generations, expected 2: it was changed"):
        folder.check_complete(folder.config(), 2)
