"""From a run to a file: what ``esd export`` and ``esd.Run.export`` do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esd.config.tables import to_table
from esd.errors import UsageError
from esd.export.formats import Format, choose
from esd.export.subject import Subject, load_subject
from esd.run import run_file
from esd.run.files import absolute
from esd.run.folder import RunFolder, Warn
from esd.run.trust import Trust, remember_exported


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: of it.
        format: its format.
        name: of the format.
        bytes: its size.
        subject: what is in it.
    """

    path: Path
    format: Format
    name: str
    bytes: int
    subject: Subject


def export_run(
    folder: RunFolder, out: Path | None, format: str | None, checkpoint: str, warn: Warn
) -> Exported:
    """Write a run to one file.

    Args:
        folder: of the run, or its file.
        out: the file; None: the run's name with the format's suffix, in the working directory.
        format: its name; None: by the suffix of ``out``.
        checkpoint: "best" or "last".
        warn: is called with a line about what is left out or rebuilt.

    Raises:
        UsageError: if the run, the format or the file is not possible.
        RunError: if the file can't be written.
    """
    chosen, name = choose(format, out)
    folder.require_run()
    if out is None:
        own = folder.place.name
        stem = folder.place.stem if folder.place.is_file() else own
        out = Path(f"{stem}{chosen.suffix}")
    place = absolute(out)  # before an environment may move us
    if place.resolve() == folder.place.resolve():
        raise UsageError(f"{out}: is the file to export; use another file with --out")
    if place.is_dir() or not place.parent.is_dir():
        raise UsageError(f"--out {out}: expected a file in a folder that exists")
    read_back = chosen.suffix in run_file.READ_BACK  # such a file stands in a run's place
    if place.exists():
        replaceable = (
            run_file.RunFile(place, Trust.NEVER).is_run if read_back else chosen.wrote(place)
        )
        if not replaceable:
            raise UsageError(f"--out {out}: exists and is not an exported run; use another file")
    subject = load_subject(folder, checkpoint, warn)
    chosen.writer()(place, subject, warn)
    if read_back:
        _remember(place, out, subject, warn)
    return Exported(out, chosen, name, place.stat().st_size, subject)


def _remember(place: Path, out: Path, subject: Subject, warn: Warn) -> None:
    """Let a file count as created here, as the run in it does."""
    sha256 = run_file.RunFile(place, Trust.NEVER).contents().sha256
    table = to_table(subject.config)
    if not remember_exported(place, sha256, subject.folder.for_trust(), table):
        warn(
            f"{out}: no folder for user state is writable, so it can't be remembered that the file was written here: "
            "commands that import its code will need --trust, or ESD_TRUST=1"
        )
