"""Where a second training can't be refused, a user hears of it."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from esd.errors import UsageError
from esd.run import locks
from esd.run.training_folder import TrainingFolder
from tests.helpers.configs import small
from tests.helpers.training import trained

HEAD = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    return tmp_path / "mountinfo"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nfs4 server:/home rw,vers=4.2,local_lock=none", ""),
        ("nfs server:/home rw,vers=3,local_lock=all", "nfs with local_lock=all"),
        ("nfs server:/home rw,vers=3,nolock,local_lock=none", "nfs with nolock"),
        ("nfs4 server:/home rw,local_lock=flock", "nfs4 with local_lock=flock"),
        ("nfs4 server:/home rw,local_lock=posix", ""),
        ("lustre mds@tcp:/scratch rw,flock", ""),
        ("lustre mds@tcp:/scratch rw,localflock", "lustre with localflock"),
        ("fuse.sshfs me@there: rw,user_id=0", "fuse.sshfs"),
        ("ext4 /dev/sdb rw", ""),
    ],
)
def test_a_file_system_whose_locks_end_at_the_machine_is_named(
    line: str, named: str, tmp_path: Path, mounts: Path
) -> None:
    home = tmp_path / "a home"
    (home / "runs").mkdir(parents=True)
    point = str(home).replace(" ", "\\040")
    mounts.write_text(f"{HEAD}\n35 22 0:50 / {point} rw shared:2 - {line}\n")
    text = locks.weakness(home / "runs", True, mounts)
    assert bool(text) == bool(named)
    assert named in text
    assert locks.weakness(tmp_path, True, mounts) == ""


def test_the_last_of_two_mounts_on_one_folder_counts(tmp_path: Path, mounts: Path) -> None:
    mounts.write_text(
        f"{HEAD}\n35 22 0:50 / {tmp_path} rw - nfs a:/b rw,nolock\n36 22 0:51 / {tmp_path} rw - tmpfs x rw\n"
    )
    assert locks.weakness(tmp_path, True, mounts) == ""


@pytest.mark.parametrize("text", ["", "x", "1 2 3 - \n - \n", "\x00\xff"])
def test_mounts_that_can_not_be_understood_say_nothing(
    text: str, tmp_path: Path, mounts: Path
) -> None:
    mounts.write_text(text)
    assert locks.weakness(tmp_path, True, mounts) == ""
    assert locks.weakness(tmp_path, True, tmp_path / "none") == ""


def test_a_training_says_that_its_folder_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    notes: list[str] = []
    monkeypatch.setattr("esd.commands.console.Quiet.note", lambda self, text: notes.append(text))
    monkeypatch.setattr(fcntl, "flock", refuse)
    for generations in (1, 2):  # a new run, and a resume
        notes.clear()
        assert trained(
            small("cartpole-static", f"generations={generations}"), tmp_path / "run"
        ).finished
        assert [note for note in notes if "has no locks (flock)" in note] == [
            f"{tmp_path / 'run'}: its file system has no locks (flock), so esd can't prevent a second training run in "
            "this folder; make sure that only one is running"
        ]


def test_here_a_second_training_is_refused(tmp_path: Path) -> None:
    first, second = TrainingFolder(tmp_path), TrainingFolder(tmp_path)
    first.lock()
    assert first.lock_weakness == ""
    with pytest.raises(UsageError, match="another esd process is training in this folder"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
