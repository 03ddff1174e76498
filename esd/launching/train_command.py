"""The words of ``esd train`` as its supervisor gives them: the folder named once, and what must not happen twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esd.config.another_python import esd_command, with_esd
from esd.errors import UsageError
from esd.run import journal, losses
from esd.run.folder import RunFolder

# What asks for the folder runs in a process of its own: a config may name modules of the user's.
ASK = """
import os
from esd.launching.train_command import answer
os.write(int(sys.argv[1]), answer(sys.argv[2] or None, sys.argv[3:]))
"""


@dataclass(frozen=True)
class TrainCommand:
    """A call of ``esd train``.

    Attributes:
        words: all that the user wrote after ``train``, but for what is below.
        run: the run's folder.
        fresh: the words with which a run that is in the folder is deleted; empty without.
        start_from: ``--from RUN``; empty without.
    """

    words: tuple[str, ...]
    run: Path
    fresh: tuple[str, ...] = ()
    start_from: tuple[str, ...] = ()

    def call(self, fresh: bool, start_from: bool) -> list[str]:
        """The words of a process.

        Args:
            fresh: the old run is still there.
            start_from: the new one has no generation yet.
        """
        extra = [*(self.fresh if fresh else ()), *(self.start_from if start_from else ())]
        return [
            # a run's folder as part of a word: one called : would end the command for mpirun
            *esd_command(sys.executable, Path.cwd()), "train", f"--run={self.run}", *extra, *self.words
        ]  # fmt: skip


def folder_of(experiment: str | None, settings: Sequence[str]) -> Path:
    """The folder that ``esd train`` chooses where the user names none.

    Raises:
        UsageError: for what is wrong with the experiment or the settings.
    """
    reader, writer = os.pipe()
    try:
        asked = subprocess.run(
            [*with_esd(ASK), str(writer), experiment or "", *settings],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(writer,),
            text=True, errors="replace", check=False,
        )  # fmt: skip
        os.close(writer)
        with os.fdopen(os.dup(reader), "rb") as file:
            kind, _, text = file.read().decode("utf-8", "surrogateescape").partition("\n")
    finally:
        os.close(reader)
    if kind == "folder":
        return Path(text)
    if kind == "wrong":
        raise UsageError(text)
    reason = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
    raise UsageError(f"the run's folder could not be determined ({reason}); set it with --run")


def answer(experiment: str | None, settings: Sequence[str]) -> bytes:
    """What the process answers that ``folder_of`` asks."""
    from esd.training.plan import TrainRequest, folder_of_request

    try:
        folder = folder_of_request(TrainRequest(experiment, settings=settings))
    except UsageError as error:
        return f"wrong\n{error}".encode("utf-8", "surrogateescape")
    return f"folder\n{folder}".encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Standing:
    """Where a run stands on disk.

    Attributes:
        generations: in its journal; −1 if there is none that can be read.
        journal: which file that is; None without one.
        done: which DONE.json there is; None without one.
        judged: evaluations of the generation under way that were found to end their processes.
    """

    generations: int
    journal: tuple[int, int] | None
    done: tuple[int, int] | None
    judged: int = 0

    @classmethod
    def of(cls, folder: RunFolder) -> Standing:
        """Look at a folder."""
        generations = -1
        try:
            if folder.is_run:
                generations = journal.scan(folder.journal_file, verify=False).next_generation
        except (UsageError, OSError):
            pass
        judged = losses.judged(folder.in_progress)
        return cls(generations, _which(folder.journal_file), _which(folder.done_file), judged)


def _which(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name, or from itself before it was changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
