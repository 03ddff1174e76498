"""The live view of a training, in esd train and in esd show --follow."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from esd.commands import follow
from esd.commands.curve import BRAILLE, MOST_POINTS, Curve, plotted
from esd.commands.follow import Tail
from esd.commands.live_view import View
from esd.commands.terminal import can_draw, size_of, terminal_of
from esd.errors import UsageError
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from tests.helpers.shell import command, environment
from tests.helpers.written_runs import written

LINE = {
    "schema": 2, "generation": 0, "return_mean": 12.5, "return_std": 1.0, "return_min": 1.0, "return_max": 98.0,
    "center_return": 20.0, "failed_members": 0, "sigma": 0.05, "learning_rate": 0.2, "steps_per_second": 12345.6,
    "idle_share": 0.04, "generation_seconds": 2.0, "env_steps": 10, "episodes": 2, "seconds": 2.0, "core_seconds": 2.0,
}  # fmt: skip


def frame(view: View, width: int, height: int = 30) -> list[str]:
    """What a terminal of that size shows of it."""
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None
    )
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def learning(generations: int, total: int = 100, **changes: Any) -> View:
    view = View("runs/learning-s0", total, False, "steps")
    for t in range(generations):
        center = 500.0 / (1.0 + math.exp(-(t - 30) / 8))
        seconds = {"generation": t, "seconds": 2.0 * (t + 1)}
        view.add(
            {**LINE, **seconds, "center_return": center, "return_mean": 0.8 * center, **changes}
        )
    return view


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_frame_fits_the_terminal_and_shows_everything(width: int) -> None:
    lines = frame(learning(60, failed_members=2), width)
    assert {cell_len(line) for line in lines} == {min(width, 120)}
    text = "\n".join(lines)
    for part in (
        "runs/learning-s0", "center 487.0", "mean 389.6", "best 98.0", "σ 0.05", "12,346 steps/s", "idle 4%",
        "120 failed (2 now)", "60/100", "2:00", "1:20 left", "generation 100",
    ):  # fmt: skip
        assert part in text, part
    assert ("learning rate 0.2" in text) == (width >= 80)
    assert any(ord(character) > BRAILLE for character in text)


def test_a_low_terminal_has_no_curve_and_a_narrow_title_keeps_its_end() -> None:
    view = learning(60)
    view.title = "a/very/long/path/" * 10 + "name-s0"
    lines = frame(view, 60, height=10)
    assert len(lines) == 5
    assert "name-s0" in lines[0]
    assert cell_len(lines[0]) == 60


def test_what_the_center_was_stays_in_generations_without_one_by_variant() -> None:
    view = View("runs/x", 10, False, "steps")
    variants = {"center_return.push": 9.0, "center_return.pu\x1b[2Jll": 3.0}
    view.add({**LINE, "center_return": 6.0, **variants})
    view.add({**LINE, "generation": 1, "center_return": None, **dict.fromkeys(variants)})
    text = "\n".join(frame(view, 80))
    assert "center 6 " in text
    assert r"push 9, pu\x1b[2Jll 3" in text


def test_before_the_first_generation_there_is_a_frame_without_numbers() -> None:
    text = "\n".join(frame(View("runs/x", 10, False, "steps"), 80))
    assert "waiting for the first generation" in text
    assert "center –" in text
    assert "0/10" in text


def test_the_best_of_a_minimized_value_is_the_smallest_and_decades_make_a_logarithmic_axis() -> (
    None
):
    view = View("runs/x", 40, True, "evaluations")
    for t in range(40):
        value = 10.0 ** (3 - t / 4)
        view.add({**LINE, "generation": t, "center_return": value, "return_mean": value, "return_max": value,
                  "return_min": value / 10})  # fmt: skip
    text = "\n".join(frame(view, 100))
    assert "best 1.78e-08" in text
    assert "1,000 ┤" in text
    assert "1.78e-08 ┤" in text
    assert "evaluations/s" in text


def test_a_curve_goes_up_from_the_lower_left_to_the_upper_right() -> None:
    curve = Curve()
    for t in range(21):
        curve.add(t, float(t))
    rows = plotted({"center": curve}, {"center": "green"}, 60, 8, 20).plain.splitlines()
    places = [[i for i, c in enumerate(row) if ord(c) >= BRAILLE] for row in rows[:8]]
    assert all(places)
    assert [max(row) for row in places] == sorted((max(row) for row in places), reverse=True)
    assert rows[0].split("┤")[0].strip() == "20"
    assert rows[7].split("┤")[0].strip() == "0"


def test_a_curve_of_a_million_generations_keeps_a_bounded_number_of_points() -> None:
    curve = Curve()
    for t in range(1_000_000):
        curve.add(t, float(t))
    assert MOST_POINTS / 2 <= len(curve.points) <= MOST_POINTS
    assert all(abs(x - y) < 1e-6 for x, y in curve.points)
    curve.add(1_000_000, math.inf)
    assert all(math.isfinite(y) for _, y in curve.points)


@pytest.mark.parametrize(
    ("variables", "encoding", "terminal", "drawable"),
    [
        ({"TERM": "xterm"}, "utf-8", True, True),
        ({"TERM": "xterm"}, "utf-8", False, False),
        ({"TERM": "dumb"}, "utf-8", True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "utf-8", True, True),  # only without colors
        ({"TERM": "xterm", "CI": "true"}, "utf-8", True, False),
        ({"TERM": "xterm"}, "ascii", True, False),
    ],
)
def test_a_view_is_drawn_where_there_is_a_terminal_that_can_show_it(
    variables: dict[str, str], encoding: str, terminal: bool, drawable: bool
) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=terminal, _environ=variables)
    assert can_draw(console, variables) == drawable


def test_under_mpirun_its_own_terminal_counts(tmp_path: Path) -> None:
    descriptors = tmp_path / "7" / "fd"
    descriptors.mkdir(parents=True)
    words = tmp_path / "7" / "cmdline"
    words.write_bytes(b"mpirun\0-n\0002\0esd\0train\0")
    assert terminal_of(7, 1, tmp_path) == ""
    (descriptors / "1").symlink_to("/dev/pts/3")
    (descriptors / "2").symlink_to("pipe:[12345]")
    assert terminal_of(7, 1, tmp_path) == "/dev/pts/3"
    assert terminal_of(7, 2, tmp_path) == ""
    assert terminal_of(8, 1, tmp_path) == ""
    words.write_bytes(b"mpirun\0--tag-output\0esd\0train\0")  # which begins every line with a rank
    assert terminal_of(7, 1, tmp_path) == ""


def test_the_size_of_a_terminal_is_asked_for() -> None:
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
        assert size_of(os.ttyname(theirs)) == (101, 33)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 0, 0, 0, 0))
        assert size_of(os.ttyname(theirs)) is None
    finally:
        os.close(ours)
        os.close(theirs)
    assert size_of("/dev/null") is None
    assert size_of("/no/such/terminal") is None


def test_new_lines_come_once_also_when_the_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)

    def text(*generations: int, **changes: Any) -> str:
        return "".join(json.dumps({**LINE, "generation": g, **changes}) + "\n" for g in generations)

    def new() -> list[int]:
        return [line["generation"] for line in tail.lines()]

    assert new() == []
    path.write_text(text(0, 1) + text(2)[:40])
    assert new() == [0, 1]
    path.write_text(text(0, 1, 2))
    assert new() == [2]
    assert new() == []
    alone = {"return_mean": None, "center_return": 3.0}
    path.write_text(text(0, 1, 2) + "spoiled\n" + text(3, **alone))
    assert new() == [3]
    replaced = tmp_path / "new"
    replaced.write_text(
        text(0, 1, 2, 3)
    )  # the run was extended: its last generation has members now
    replaced.replace(path)
    assert new() == [3]
    path.write_text(text(0, 1, 2, 3, 4))
    assert new() == [4]
    path.unlink()
    assert new() == []


def test_following_passes_over_a_line_that_never_ends(tmp_path: Path) -> None:
    """A terabyte of holes behind the good lines: read to its end it would take an hour."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({**LINE, "generation": t}) + "\n" for t in (0, 1)))
    os.truncate(path, 10**12)
    tail = Tail(path)
    began = time.monotonic()
    assert [line["generation"] for line in tail.lines()] == [0, 1]
    assert list(tail.lines()) == []
    assert time.monotonic() - began < 5.0
    with path.open("a") as file:
        file.write("\n" + json.dumps({**LINE, "generation": 2}) + "\n")
    assert [line["generation"] for line in tail.lines()] == [2]


def finished(path: Path, **table: Any) -> RunFolder:
    """A run of two generations that is done."""
    folder = written(path / "run-s0", **table)
    done = {
        "reason": "generations",
        "generation": 2,
        "best_center_return": 1.0,
        "findings": [{"name": "x", "text": "Look\x1b[2J here."}],
    }
    (folder / "DONE.json").write_text(json.dumps(done))
    return RunFolder(folder, Trust.NEVER)


def test_following_a_finished_run_shows_its_last_frame_and_what_was_found(tmp_path: Path) -> None:
    console = Console(width=80, height=30, file=io.StringIO(), force_terminal=True, highlight=False)
    follow._follow_live(finished(tmp_path), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "done: generations" in text
    assert "warning: Look\\x1b[2J here." in text  # which would clear the screen
    assert text.rstrip().endswith("here.")


@pytest.mark.parametrize("way", ["live", "lines"])
def test_following_ends_at_a_damaged_end_of_a_run(tmp_path: Path, way: str) -> None:
    """It would wait for ever: nothing more is written to a run that has ended."""
    folder = finished(tmp_path)
    (folder.path / "DONE.json").write_text("{}")
    ways = {
        "live": lambda: follow._follow_live(
            folder, Console(file=io.StringIO(), force_terminal=True)
        ),
        "lines": lambda: follow._follow_lines(folder),
    }
    with pytest.raises(UsageError, match="was not written by esd at the end of a run"):
        ways[way]()


def test_following_imports_no_code_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path, importing=False, es={"algorithm": "no_such_module_anywhere:KIND"})
    follow.follow(folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["generation", str(g)] for g in range(3)]


def test_ctrl_c_ends_following_with_130_and_gives_the_cursor_back(tmp_path: Path) -> None:
    written(tmp_path / "run-s0")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, 80, 0, 0))
    variables = environment(TERM="xterm")
    for name in ("CI", "NO_COLOR"):
        variables.pop(name, None)
    process = subprocess.Popen(
        command("show", "run-s0", "--follow"), cwd=tmp_path, env=variables, stdout=theirs
    )
    os.close(theirs)
    output, asked = b"", False
    began = time.monotonic()
    while time.monotonic() - began < 60:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how Linux tells the end of a pseudo-terminal
            break
        output += piece
        if (
            not asked and b"run-s0" in output and b"\xe2\x95\xaf" in output
        ):  # the frame's last corner
            process.send_signal(signal.SIGINT)
            asked = True
    os.close(ours)
    assert process.wait(timeout=60) == 130
    assert output.rstrip().endswith(b"\x1b[?25h")
