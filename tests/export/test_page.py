"""The examples of docs/export.md, and the commands themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esd.cli import app
from tests.helpers.shell import esd

PAGE = Path(__file__).parents[2] / "docs/export.md"


def example(number: int) -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(found) == 2
    return str(found[number])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


def test_the_python_examples_run_one_after_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'esd-mpi[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'esd-mpi[torch]'")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(example(0), "docs/export.md", "exec"), names)
    assert names["done"] is True
    exec(compile(example(1), "docs/export.md", "exec"), names)
    assert set(names["state"]) == {"layer0.w", "layer1.w", "layer2.w"}  # type: ignore[call-overload]


def test_the_command_says_what_it_wrote(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", str(run), "--format", "seed"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("tiny.seed: best checkpoint of ")
    assert f"{(tmp_path / 'tiny.seed').stat().st_size:,} bytes" in done.output
    shown = CliRunner().invoke(app, ["show", "tiny.seed"])
    h_sha256 = re.search(r"h sha256 +(\w+)", shown.output)
    assert h_sha256 is not None
    again = esd(
        "export", "tiny.seed", "--json", cwd=tmp_path
    )  # the object goes past Python's stdout
    written = json.loads(again.stdout)
    assert (written["file"], written["h_sha256"]) == ("tiny.safetensors", h_sha256[1])
    assert written["bytes"] == (tmp_path / "tiny.safetensors").stat().st_size
    wrong = CliRunner().invoke(app, ["export", "tiny.seed", "--out", "nowhere/a.seed"])
    assert wrong.exit_code == 2


def test_a_video_is_made_by_the_command_from_a_file(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="needs Pillow: pip install 'esd-mpi[video]'")
    assert (
        CliRunner().invoke(app, ["export", str(run), "--out", f"{tmp_path}/a.seed"]).exit_code == 0
    )
    done = esd("eval", "a.seed", "--episodes", "1", "--video", "a.gif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^a\.gif: .* s of the first test episode on CartPole-v1 \(return", done.stdout, re.M
    )
    assert (tmp_path / "a.gif").read_bytes()[:3] == b"GIF"


def test_a_report_and_a_comparison_take_files_in_place_of_folders(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["export", str(run), "--out", "a.safetensors"]).exit_code == 0
    alone = CliRunner().invoke(app, ["compare", "a=a.safetensors", f"b={run}"])
    assert alone.exit_code == 2  # it has read both, and one run has no spread
    pytest.importorskip("plotly", reason="plotly is not installed: pip install 'esd-mpi[report]'")
    done = CliRunner().invoke(app, ["report", "a.safetensors", "--out", "a.html"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "a.safetensors" in page
    assert "its parameters are not shown" not in done.output
