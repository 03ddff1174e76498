"""``esd train --quiet``: nothing where all goes well, and every warning."""

from __future__ import annotations

import json
from pathlib import Path

from esd.commands.quiet import WarningsOnly
from esd.training.reports import GenerationReport, News
from tests.helpers.shell import TINY, esd


class Heard:
    """A reporter that keeps what it is given."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.closed = False

    def begin(self, run: Path) -> None:
        self.notes.append("begin")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def generation(self, report: GenerationReport, generations: int) -> None:
        self.notes.append("a generation")

    def close(self) -> None:
        self.closed = True


def test_news_and_generations_are_left_out_and_warnings_pass() -> None:
    heard = Heard()
    reporter = WarningsOnly(heard)
    reporter.begin(Path("run"))
    reporter.note(News("resuming at generation 3"))
    reporter.note("dropped a record of 7 bytes that was cut short")
    reporter.generation(None, 3)  # type: ignore[arg-type]
    reporter.close()
    assert heard.notes == ["dropped a record of 7 bytes that was cut short"]
    assert heard.closed


def test_a_training_and_its_resume_say_nothing_and_findings_are_warnings(tmp_path: Path) -> None:
    first = esd("train", *TINY, "--quiet", "--run", "run", cwd=tmp_path)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    more = esd(
        "train", *TINY, "--set", "generations=4", "-q", "--json", "--run", "run", cwd=tmp_path
    )
    assert (more.returncode, more.stderr) == (0, "")
    assert json.loads(more.stdout)["generation"] == 4
    flat = ("--set", "env.max_steps=1", "--set", "generations=2")  # every return is 1
    warned = esd("train", *TINY, *flat, "--quiet", "--run", "flat", cwd=tmp_path)
    assert (warned.returncode, warned.stdout) == (0, "")
    assert warned.stderr
    assert all(line.startswith("warning: ") for line in warned.stderr.splitlines())
