"""The page of ``esd report``, made in this process from runs that were written, not trained."""

from __future__ import annotations

import html
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from esd.api.run import Run
from esd.cli import app
from esd.errors import MissingPackageError
from esd.evaluation import video_facts
from esd.report import page as pages
from esd.report.html import alike_columns
from esd.report.parameters import outline
from esd.report.runs import read_arms
from esd.run import journal
from tests.helpers.training import trained
from tests.helpers.written_runs import evaluation, written

from esd.config.tables import parse  # isort: skip

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'esd-mpi[report]'")

pytestmark = pytest.mark.xdist_group("report")

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


Report = Callable[..., Result]


@pytest.fixture
def report(capfd: pytest.CaptureFixture[str]) -> Report:
    """Calls the command line in this process."""

    def call(*arguments: str | Path) -> Result:
        capfd.readouterr()
        code = 0
        try:
            app(["report", *map(str, arguments)])
        except SystemExit as ending:
            code = int(ending.code or 0)
        return Result(code, *capfd.readouterr())

    return call


def figures_of(text: str) -> list[dict[str, Any]]:
    """What the page's script draws."""
    return [
        json.loads(found)
        for found in re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    ]


class Tags(HTMLParser):
    """The elements of a page, and whether they are closed in the order in which they were opened."""

    VOID = ("meta", "link", "img", "input", "br", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of three runs each, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for name, offset, table in (("plain", 0.0, {}), ("wide", 9.0, {"es": {"sigma": 0.5}})):
        for seed in (1, 2, 3):
            found = evaluation({"a": seed + offset, "u1": 10.0 * seed})
            written(folder / f"{name}-s{seed}", found, **table)
    return folder


def test_runs_that_differ_in_their_seed_alone_are_one_group(
    report: Report, groups: Path, tmp_path: Path
) -> None:
    result = report(groups, "--out", tmp_path / "a.html", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [(g["name"], len(g["runs"])) for g in told["groups"]] == [("plain", 3), ("wide", 3)]
    text = (tmp_path / "a.html").read_text("utf-8")
    assert told["bytes"] == (tmp_path / "a.html").stat().st_size
    # means and Student's interval of 1, 2, 3: 2 ± 4.303 · 1/√3
    assert re.search(r"<td[^>]*>2.00</td><td[^>]*>1.00</td><td[^>]*>−0.48 to 4.48</td>", text)
    # three and three runs: 20 relabelings, 1 of them as extreme on this side; two tests (Holm)
    assert re.search(r">\+9\.\d+</td><td[^>]*>0.1</td><td[^>]*>0.2</td>", text)
    assert "es.sigma" in text  # what differs
    names = {attributes.get("id") for tag, attributes in Tags(text).seen if tag == "section"}
    assert names >= {
        "overview",
        "learning",
        "evaluation",
        "comparison",
        "timing",
        "settings",
        "provenance",
    }


def test_a_name_from_the_command_line_is_the_groups_name(
    report: Report, groups: Path, tmp_path: Path
) -> None:
    words = [f"ours={groups}/wide-s*", f"theirs={groups}/plain-s1,{groups}/plain-s2"]
    result = report(*words, "--out", tmp_path / "b.html", "--json")
    told = json.loads(result.stdout)
    assert [(g["name"], len(g["runs"])) for g in told["groups"]] == [("ours", 3), ("theirs", 2)]


def test_curves_are_means_and_ranges_over_runs(report: Report, tmp_path: Path) -> None:
    for seed, steps in ((1, 1000), (2, 2000)):
        written(tmp_path / f"r-s{seed}", steps=steps)
    assert report(tmp_path, "--out", tmp_path / "c.html").exit_code == 0
    curves = next(f for f in figures_of((tmp_path / "c.html").read_text()) if len(f["views"]) > 3)
    by_steps = curves["views"]["0|0"]
    assert by_steps["layout"]["xaxis"]["title"]["text"] == "environment steps"
    mean = by_steps["data"][-1]
    # the first run ends at 2,000 steps, the second at 4,000: the mean goes from 0 to 2,000
    assert (mean["x"][0], mean["x"][-1]) == (0, 2000)
    assert set(mean["y"]) == {1.0}


def test_every_figure_is_one_that_plotly_knows(
    report: Report, groups: Path, tmp_path: Path
) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    report(groups, "--out", tmp_path / "d.html")
    found = figures_of((tmp_path / "d.html").read_text())
    assert len(found) >= 4
    for figure in found:
        for view in figure["views"].values():
            graph_objects.Figure(data=view["data"], layout=view["layout"])  # ValueError otherwise


def test_nothing_of_a_run_becomes_part_of_the_page(report: Report, tmp_path: Path) -> None:
    run = written(tmp_path / "x-s1", evaluation({HOSTILE: 1.0}), env={"id": HOSTILE})
    (run / "provenance.json").write_text(
        json.dumps([{"command": ["esd", HOSTILE], "host": HOSTILE}])
    )
    assert report(run, "--out", tmp_path / "e.html").exit_code == 0
    text = (tmp_path / "e.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert "alert(1)" in text  # it is there, as text
    elements = Tags(text).seen
    assert sum(tag == "script" for tag, _ in elements) == len(figures_of(text)) + 2
    assert not [a for tag, a in elements if "onerror" in a or tag == "img"]
    policy = next(a["content"] for tag, a in elements if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert not [a for _, a in elements if (a.get("src") or a.get("href") or "#")[0:4] == "http"]


def test_code_that_a_run_names_is_not_imported(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad_code.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    own = {"policy": {"kind": "bad_code:Policy"}, "es": {"optimizer": "bad_code:Optimizer"}}
    written(tmp_path / "y-s1", importing=False, **own)
    monkeypatch.setenv("ESD_TRUST", "1")
    result = report("y-s1", "--out", "f.html")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "marker").exists()


def test_a_run_without_generations_and_one_that_was_stopped_are_shown(
    report: Report, tmp_path: Path
) -> None:
    table = {
        "env": {"id": "CartPole-v1", "max_steps": 20},
        "policy": {"hidden": [3]},
        "population": 4,
    }
    trained(parse({**table, "generations": 0}, "test"), tmp_path / "empty")
    result = report(tmp_path / "empty", "--out", tmp_path / "g.html")
    assert result.exit_code == 0, result.stderr
    assert "0 of 0" in (tmp_path / "g.html").read_text("utf-8")
    stopped = written(tmp_path / "stopped-s1")  # without DONE.json
    assert (
        report(stopped, "--out", tmp_path / "g.html").exit_code == 0
    )  # its own report is replaced
    assert "not finished" in (tmp_path / "g.html").read_text("utf-8")


def test_of_two_runs_with_one_seed_the_longer_one_is_shown(tmp_path: Path) -> None:
    """The first may have died at its start, and the second may have another ``on_failure``."""
    short, long = written(tmp_path / "a-s1"), written(tmp_path / "b-s1")
    lines = (short / "metrics.jsonl").read_text().splitlines(keepends=True)
    header = (short / "journal.bin").read_bytes()
    first = journal.scan(short / "journal.bin").positions[1]
    (short / "journal.bin").write_bytes(header[:first])
    (short / "metrics.jsonl").write_text(lines[0])
    for order in ((short, long), (long, short)):
        warnings: list[str] = []
        (arm,) = read_arms(list(map(str, order)), warnings.append)
        assert [run.folder.path for run in arm.runs] == [long]
        assert warnings == [f"{short}: is the same training run as {long} (same seed); skipped"]


def test_a_damaged_run_is_one_line_and_in_a_folder_of_runs_it_is_left_out(
    report: Report, tmp_path: Path
) -> None:
    good, bad = written(tmp_path / "r-s1"), written(tmp_path / "r-s2")
    data = bytearray((bad / "journal.bin").read_bytes())
    data[len(data) // 2] ^= 255
    (bad / "journal.bin").write_bytes(data)
    out = tmp_path / "h.html"
    refused = report(good, bad, "--out", out)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "journal.bin: damaged" in refused.stderr
    assert not out.exists()
    passed = report(tmp_path, "--out", out)
    assert passed.exit_code == 0
    assert "skipped" in passed.stderr
    assert "; skipped</li>" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["RUN", "--out", "no/where.html"], "a folder that exists"),
        (["RUN", "--out", "notes.html"], "is not a report"),
        (["RUN", "--video", "nothing.mp4"], "no such file"),
        (["RUN", "--video", "notes.html"], "expected MP4, WebM or GIF"),
        (["RUN", "--trace", "notes.html"], "not a trace"),
        (["RUN", "--trace", "other.safetensors"], "not a trace"),
        (["one=RUN", "two=RUN"], "in two groups"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(
    report: Report,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "RUN-s1").rename(tmp_path / "RUN")
    (tmp_path / "notes.html").write_text("my own notes")
    safetensors.numpy.save_file({}, "other.safetensors", {"format": "esd-checkpoint-1"})
    result = report(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert (tmp_path / "notes.html").read_text() == "my own notes"


def test_videos_of_the_run_folder_and_of_the_user_are_embedded(
    report: Report, tmp_path: Path
) -> None:
    run = written(tmp_path / "v-s1")
    (run / "car.gif").write_bytes(b"GIF89a....")
    (run / "broken.mp4").write_bytes(b"nothing")
    (tmp_path / "secret").write_bytes(b"GIF89asecret")
    (run / "link.gif").symlink_to(tmp_path / "secret")
    (tmp_path / "ant.mp4").write_bytes(b"\0\0\0\x20ftypisom....")
    result = report(run, "--video", tmp_path / "ant.mp4", "--out", tmp_path / "i.html")
    assert result.exit_code == 0, result.stderr
    assert "broken.mp4: not a video" in result.stderr
    elements = Tags((tmp_path / "i.html").read_text("utf-8")).seen
    (video,) = [a for tag, a in elements if tag == "video"]
    (picture,) = [a for tag, a in elements if tag == "img"]
    assert video["src"] == "data:video/mp4;base64,AAAAIGZ0eXBpc29tLi4uLg=="
    assert picture["src"] == "data:image/gif;base64,R0lGODlhLi4uLg=="
    assert "controls" in video
    assert picture["alt"] == "v-s1: car.gif"


def gif(facts: dict[str, Any], width: int = 240, height: int = 120) -> bytes:
    """A .gif without a picture, with a comment in blocks (GIF89a, 24)."""
    line = video_facts.line_of(facts).encode()
    blocks = [line[i : i + 255] for i in range(0, len(line), 255)]
    comment = b"".join(bytes([len(block)]) + block for block in blocks)
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0\x21\xfe" + comment + b"\0;"


def test_a_small_video_is_enlarged_and_its_caption_says_what_it_shows(
    report: Report, tmp_path: Path
) -> None:
    run = written(tmp_path / "v-s1")
    facts = {
        "run": "other", "checkpoint": "best", "generation": 1234, "variant": "light", "seed": 7, "rules": "evolved",
        "settings": "env.kwargs.g = 5", "return": -17.6912, "steps": 100, "whole": False,
    }  # fmt: skip
    (run / "a.gif").write_bytes(gif(facts))
    odd = {key: [HOSTILE] for key in facts}
    (run / "b.gif").write_bytes(gif({**odd, "run": HOSTILE, "settings": "x" * 180}, 2000, 1000))
    assert report(run, "--out", tmp_path / "l.html").exit_code == 0
    text = (tmp_path / "l.html").read_text("utf-8")
    one, other = [a for tag, a in Tags(text).seen if tag == "img"]
    assert (one["width"], one["height"], one["alt"]) == ("480", "240", "other, light")
    assert (
        "<h3>other, light</h3><p>best checkpoint, generation 1,234, seed 7, env.kwargs.g = 5, return −17.69, "
        "100 steps, the end is not shown, a.gif, 240 × 120 pixels</p>"
    ) in text
    assert (other["width"], other["height"], other["alt"]) == ("800", "400", HOSTILE)
    assert "<script>alert" not in text


def test_without_a_video_the_page_says_how_to_get_one(report: Report, tmp_path: Path) -> None:
    run = written(tmp_path / "my run-s1")
    report(run, "--out", tmp_path / "m.html")
    text = html.unescape((tmp_path / "m.html").read_text("utf-8"))
    for option, file in (("video", "episode.gif"), ("trace", "episode.safetensors")):
        assert f"esd eval '{run}' --{option} '{run}/{file}' " in text
    table = {"direction": "minimize", "parameters": {"x": {"shape": [2], "initial": 1.0}}}
    objective = written(tmp_path / "f-s1", objective={"function": "sphere", **table})
    report(objective, "--out", tmp_path / "m.html")
    assert 'id="video"' not in (tmp_path / "m.html").read_text("utf-8")


def test_an_interval_of_two_runs_is_in_the_table_and_does_not_set_the_axis(
    report: Report, groups: Path, tmp_path: Path
) -> None:
    words = [f"two={groups}/wide-s1,{groups}/wide-s2", f"three={groups}/plain-s*"]
    report(*words, "--out", tmp_path / "n.html")
    text = (tmp_path / "n.html").read_text("utf-8")
    assert ">4.15 to 16.85</td>" in text  # 10.5 ± 12.706 · 0.7071/√2
    figure = next(f for f in figures_of(text) if "error_x" in json.dumps(f))
    halves = [t["error_x"]["array"] for t in figure["views"][""]["data"] if "error_x" in t]
    assert halves[0] == [0.0, 0.0]
    assert halves[1][0] == pytest.approx(2.484, abs=1e-3)
    assert figure["views"][""]["data"][0]["x"] == [10.0, 11.0, 10.0, 20.0], "the runs are points"


def test_many_groups_of_a_folder_have_its_name_as_their_title(
    report: Report, tmp_path: Path
) -> None:
    for folder, title in (("sweep", "sweep"), ("mine/runs", "mine/runs")):
        for number in range(4):
            written(tmp_path / folder / f"{'abcd'[number]}-s1", es={"sigma": 0.1 + number})
        report(tmp_path / folder, "--out", tmp_path / "o.html")
        assert f"<h1>{title}</h1>" in (tmp_path / "o.html").read_text("utf-8")


def test_columns_of_one_unit_have_as_many_decimals() -> None:
    assert alike_columns([[-99.82, -16.3], [8.762]]) == 2
    assert alike_columns([[-100.1, -59.4], [0.27]]) == 2
    assert alike_columns([[5000.0], [0.001]]) == 2
    assert alike_columns([[], []]) is None


def test_a_histogram_shows_whole_bins() -> None:
    x, y = outline(np.array([0.25, 0.75]), np.array([0.0, 1.0, 2.0]))
    assert x.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert y.tolist() == [0.0, 0.25, 0.75, 0.0]


def test_without_plotly_one_line_says_what_to_install(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(package: str) -> Path:
        raise ModuleNotFoundError(name=package)

    monkeypatch.setattr(pages.resources, "files", none)
    with pytest.raises(MissingPackageError, match=r"pip install 'esd-mpi\[report\]'"):
        pages.plotly_script()
    result = report(written(tmp_path / "w-s1"), "--out", tmp_path / "j.html")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_the_old_words_name_the_new_command(report: Report) -> None:
    for arguments in (["compare", "a=b", "c=d"], ["compare", "--json"], ["compare", "--help"]):
        result = report(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            result.stderr == "esd: esd report compare is now esd compare, with the same arguments\n"
        )


def test_an_exported_file_is_reported_in_place_of_its_folder(
    report: Report, tmp_path: Path
) -> None:
    table = {
        "env": {"id": "CartPole-v1", "max_steps": 20},
        "policy": {"hidden": [3]},
        "population": 4,
    }
    trained(parse({**table, "generations": 2}, "test"), tmp_path / "run")
    Run(tmp_path / "run").export(tmp_path / "run.safetensors")
    result = report(tmp_path / "run.safetensors", "--out", tmp_path / "k.html")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "k.html").read_text("utf-8")
    assert "2 of 2" in text
    assert "layer0" in text
