"""What is held against rows whose processes were lost: three losses, two of them alone, or a time limit."""

from __future__ import annotations

import random
from functools import reduce
from pathlib import Path

import pytest

from esd.run import losses
from esd.run.losses import Event, Suspicion, append, encode, judged, path_of, read
from tests.helpers.disk import at_every_sync

KEY, OTHER = b"state 07", b"state 08"
LOST, ALONE, LATE, JUDGED = Event.LOST, Event.LOST_ALONE, Event.TOOK_TOO_LONG, Event.JUDGED


@pytest.mark.parametrize(
    ("events", "holds"),
    [
        ([], False),
        ([ALONE, ALONE], False),
        ([ALONE, ALONE, ALONE], True),
        ([LOST, ALONE, ALONE], True),
        ([LOST, LOST, ALONE], False),  # somebody may kill what runs, again and again
        ([LOST] * 9, False),
        ([LOST, LOST, ALONE, ALONE], True),
        ([LATE], True),
        ([ALONE, ALONE, ALONE, JUDGED], False),  # its code may have been repaired
        ([ALONE, ALONE, ALONE, JUDGED, ALONE], True),
        ([LATE, JUDGED], False),
    ],
)
def test_a_row_is_the_reason_after_three_losses_of_which_two_were_its_alone(
    events: list[Event], holds: bool
) -> None:
    one = reduce(Suspicion.after, events, Suspicion())
    assert one.holds == holds
    assert one.judged == (JUDGED in events)


def test_events_are_read_as_they_were_kept_and_those_of_another_state_are_not(
    tmp_path: Path,
) -> None:
    assert read(tmp_path, KEY) == {}
    append(tmp_path / "new", KEY, [(3, LOST), (5, LOST)])
    append(tmp_path / "new", OTHER, [(3, LATE)])
    append(tmp_path / "new", KEY, [(5, ALONE), (5, ALONE), (2**63, JUDGED)])
    assert read(tmp_path / "new", KEY) == {
        3: Suspicion(1, 0),
        5: Suspicion(3, 2),
        2**63: Suspicion(2, 2, False, True),
    }
    assert judged(tmp_path / "new") == 1


def test_events_are_on_disk_before_the_row_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine itself may go down with the next process."""
    syncs: list[tuple[Path, bytes]] = []
    at_every_sync(monkeypatch, lambda synced: syncs.append((synced, synced.read_bytes())))
    append(tmp_path, KEY, [(3, LOST), (5, ALONE)])
    assert syncs == [(path_of(tmp_path), encode(KEY, 3, LOST) + encode(KEY, 5, ALONE))]


def test_of_a_damaged_file_the_whole_entries_are_used(tmp_path: Path) -> None:
    for row in range(20):
        append(tmp_path, KEY, [(row, ALONE)])
    whole, dice = path_of(tmp_path).read_bytes(), random.Random(1)
    size = len(whole) // 20
    for _ in range(200):
        data = bytearray(whole[: dice.randrange(len(whole))])
        at = dice.randrange(len(data)) if data else 0
        if data:
            data[at] ^= 1 << dice.randrange(8)
        path_of(tmp_path).write_bytes(data)
        wanted = {*range(len(data) // size)} - {at // size}
        assert {row for row, one in read(tmp_path, KEY).items() if one == Suspicion(1, 1)} == wanted
    path_of(tmp_path).unlink()
    path_of(tmp_path).symlink_to("/dev/zero")
    assert read(tmp_path, KEY) == {}
    assert losses.judged(tmp_path) == 0
