"""Progress as a user sees it: plain lines in a file, a view in a terminal."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import subprocess
import time
from pathlib import Path

import pytest

from esd.commands.console import ConsoleReporter
from esd.training.reports import GenerationReport
from tests.helpers.shell import TINY, command, environment

REPORT = GenerationReport(
    generation=0, return_mean=12.3456, return_std=1.0, return_min=1.0, return_max=98.76, center_return=None,
    failed_members=0, sigma=0.1, sigma_min=0.1, sigma_max=0.1, learning_rate=0.2, h_norm=1.0, update_norm=0.1,
    tied_share=0.0,
    steps_per_second=12345.6, idle_share=0.04, generation_seconds=1.0, ranks=2, env_steps=10, episodes=2, seconds=1.0,
    core_seconds=2.0, variant_returns={}, variant_centers={},
)  # fmt: skip


def test_plain_lines_tell_everything_and_come_at_most_once_a_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reporter = ConsoleReporter()
    for generation in range(10):
        now = 1000.0 + 0.4 * generation
        reporter.generation(
            dataclasses.replace(REPORT, generation=generation, failed_members=3), 10
        )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "generation 0/10  mean 12.3  best 98.8  12,346 steps/s  idle 4%  3 members without a finite fitness"
    )
    assert [line.split()[1] for line in lines] == ["0/10", "3/10", "6/10", "9/10"]
    assert lines[1].endswith("left 0:03")


@pytest.mark.parametrize(
    ("centers", "shown"),
    [
        ({"push": 9.0, "pull": 3.0}, "center 6 (push 9, pull 3)  mean"),
        ({"push": 9.0, "pull": None}, "center 6 (push 9)  mean"),
        ({str(body): 9.0 - body for body in range(7)}, "center 6 (worst: 6 3)  mean"),
    ],
)
def test_the_centers_return_is_told_on_each_variant_or_on_the_worst_of_many(
    centers: dict[str, float | None], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = dataclasses.replace(REPORT, center_return=6.0, variant_centers=centers)
    ConsoleReporter().generation(report, 10)
    assert shown in capsys.readouterr().out


def in_a_terminal(*words: str, cwd: Path, **variables: str) -> tuple[int, str]:
    """The exit code of a command, and what it writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*words),
        cwd=cwd,
        env=environment(TERM="xterm-256color", CI="", **variables),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how Linux tells the end of a pseudo-terminal
            break
        if not piece:
            break
        output += piece
    os.close(ours)
    return process.wait(timeout=60), output.decode()


def test_a_terminal_shows_a_view_that_changes(tmp_path: Path) -> None:
    code, text = in_a_terminal("train", *TINY, "--run", "run", cwd=tmp_path, NO_COLOR="")
    assert code == 0
    assert "\x1b[2K" in text, "no line was rewritten"
    assert "3/3" in text
    assert "┤" in text, "no curve was drawn"
    assert "evaluate it: esd eval run" in text


@pytest.mark.parametrize("words", [("train", *TINY), ("train", "--wrong"), ("list", "rules")])
def test_no_color_keeps_colors_out_of_a_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    _, text = in_a_terminal(*words, cwd=tmp_path, NO_COLOR="1")
    assert "cartpole" in text or "wrong" in text or "Δw" in text
    colors = re.findall(r"\x1b\[[\d;]*m", text)
    codes = {int(code) for style in colors for code in style[2:-1].split(";") if code}
    assert codes <= {0, 1, 2}, "more than bold and dim"
