"""Runs that the first version of esd has written go on, and end in the h that it would have ended in.

``tests/data/runs_of_version_1`` holds runs of six generations that were stopped after three: every kind of policy, and
an optimizer of every sort. Their environments are compiled in strict arithmetic, so their bits are the same everywhere.
The run with a torch module is the exception: torch has other bits on other processors. It was written on one where MKL
uses the code that all processors have, which variables select elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import tomli_w

from esd.config.identity import identity, settings_of_h
from esd.config.settings import FORMAT, Config
from esd.config.tables import to_table
from esd.run.folder import RunFolder
from tests.helpers.shell import esd
from tests.helpers.training import from_journal

RUNS = Path(__file__).parents[1] / "data" / "runs_of_version_1"
# the code that every x86 processor has, of torch's MKL, of torch itself and of oneDNN
COMMON_CODE = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
VARIABLES = {"module-clipup": COMMON_CODE}
EXPECTED: dict[str, str] = json.loads((RUNS / "h_after_6_generations.json").read_text())


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the runs has a policy of these tests, and was created elsewhere."""
    monkeypatch.setenv("ESD_TRUST", "1")


def test_every_stored_run_is_expected() -> None:
    assert {path.name for path in RUNS.iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("without", ["nothing", "checkpoints"])
def test_a_run_of_the_first_version_is_resumed(name: str, without: str, tmp_path: Path) -> None:
    run = tmp_path / name
    shutil.copytree(RUNS / name, run)
    if without == "checkpoints":
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()
    words = ("train", "--run", str(run), "--set", "generations=6", "--json")
    result = esd(*words, cwd=tmp_path, **VARIABLES.get(name, {}))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["h_sha256"] == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_journal_of_the_first_version_rebuilds_its_checkpoint(name: str) -> None:
    folder = RunFolder(RUNS / name)
    config = folder.config()
    newest = folder.load_checkpoint(folder.checkpoint_files()[0], config).state
    assert from_journal(RUNS / name, newest.generation).sha256() == newest.sha256()


def test_a_run_without_a_format_in_its_config_keeps_the_first_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    table = to_table(Config())
    del table["format"]
    folder.config_file.write_text(tomli_w.dumps(table))
    assert folder.config().format == 1
    assert "format" not in settings_of_h(folder.config())


def test_a_new_run_has_the_newest_format_in_its_identity() -> None:
    assert Config().format == FORMAT
    assert identity(Config()) != identity(dataclasses.replace(Config(), format=1))
