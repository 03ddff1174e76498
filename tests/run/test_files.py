"""How files of a run are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.run.files import write_atomically
from tests.helpers.disk import at_every_sync


def test_the_new_file_is_on_disk_before_it_has_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, syncs = tmp_path / "x.json", list[tuple[bool, bytes]]()
    path.write_bytes(b"old")
    at_every_sync(monkeypatch, lambda synced: syncs.append((synced == tmp_path, path.read_bytes())))
    write_atomically(path, b"new")
    assert syncs == [(False, b"old"), (True, b"new")]
