"""``esd show --follow``: the view of a training from another terminal, or from a login node.

It reads the run's folder and nothing else. New lines of the metrics are read from where the last ones ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from esd.commands.live_view import short
from esd.errors import UsageError, one_line
from esd.reading import open_regular
from esd.run import metrics

if TYPE_CHECKING:
    from rich.console import Console

    from esd.run.folder import RunFolder

SECONDS = 0.5
QUIET_SECONDS = (
    10.0  # without a new generation, after which the view says how long it has been waiting
)


class Tail:
    """The lines of a metrics file that come to it; each once, also if the file is written anew by a resume.

    Args:
        path: of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        """Begin before the first line."""
        self._path = path
        self._file: tuple[int, int] | None = None
        self._read = 0
        self._last = -1
        self._center_alone = False

    def lines(self) -> Iterator[metrics.Line]:
        """What is new; a line that is still being written is left for the next call."""
        try:
            with open_regular(self._path) as file:
                found = self._path.stat()
                if self._file != (found.st_dev, found.st_ino) or found.st_size < self._read:
                    self._file, self._read = (found.st_dev, found.st_ino), 0
                file.seek(self._read)
                while text := metrics.next_line(file):
                    if not text.endswith(b"\n") and len(text) <= metrics.LONGEST_LINE:
                        break
                    self._read = file.tell()  # also past the rest of what is no line
                    line = metrics.line_of(text)
                    if line is not None and self._is_new(line):
                        yield line
        except (OSError, UsageError):  # there is none yet, or something else stands in its place
            return

    def _is_new(self, line: metrics.Line) -> bool:
        """Whether its generation was not there; one that was extended comes again, now with members."""
        again = line["generation"] == self._last and self._center_alone
        if line["generation"] <= self._last and not again:
            return False
        alone = line["return_mean"] is None and not line["failed_members"]
        if again and alone:
            return False
        self._last, self._center_alone = line["generation"], alone
        return True


def follow(folder: RunFolder) -> None:
    """Show each generation until DONE.json is there; in a terminal as the live view, elsewhere as lines."""
    from rich.console import Console

    from esd.commands.terminal import Screen

    console = Console(highlight=False, soft_wrap=True)
    if Screen(console, launched=False).drawable:
        _follow_live(folder, console)
    else:
        _follow_lines(folder)


def _follow_live(folder: RunFolder, console: Console) -> None:
    from rich.live import Live
    from rich.text import Text

    from esd.commands.live_view import View, duration

    config = folder.config()
    counts = "evaluations" if config.objective.named else "steps"
    view = View(str(folder.path), config.generations, config.sign < 0, counts)
    tail, heard = Tail(folder.metrics_file), time.monotonic()
    live = Live(view, console=console, auto_refresh=False)
    try:  # Ctrl-C may come while the first frame is drawn, before a with block would begin
        live.start()
        while True:
            done = folder.done()
            for line in tail.lines():
                view.add(line)
                heard = time.monotonic()
            waited = time.monotonic() - heard
            view.note = f"waiting for {duration(waited)}" if waited > QUIET_SECONDS else ""
            if done is not None:
                view.note = f"done: {done['reason']}"
            live.refresh()
            if done is not None:
                break
            time.sleep(SECONDS)
    finally:
        live.stop()
        console.show_cursor()
    for finding in done.get("findings") or ():
        if isinstance(finding, dict) and isinstance(finding.get("text"), str):
            console.print(Text(f"warning: {one_line(finding['text'])}"))


def _follow_lines(folder: RunFolder) -> None:
    """Print each new line of the metrics."""
    counted = "evaluations" if folder.config().objective.named else "steps"
    tail = Tail(folder.metrics_file)
    while True:
        done = folder.done() is not None
        for line in tail.lines():
            returns = "".join(
                f"  {name} {short(line[key])}"
                for name, key in (("center", "center_return"), ("mean", "return_mean"))
                if line[key] is not None
            )
            print(
                f"generation {line['generation']}{returns}  {counted} {line['env_steps']:,}",
                flush=True,
            )
        if done:
            return
        time.sleep(SECONDS)
