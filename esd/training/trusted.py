"""The folder of a run whose code may be imported: rank 0 decides for all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esd.config.references import Reference, references_in
from esd.config.settings import Config
from esd.config.tables import apply_settings, to_table
from esd.mpi.comm import Communicator, agreement
from esd.run.folder import RunFolder, Warn
from esd.run.run_file import open_run
from esd.run.trust import Trust, remember, trust_of


def trusted_run(
    comm: Communicator, path: Path, trust: bool, settings: Sequence[str] = ()
) -> RunFolder:
    """A run that exists and may be built, on every rank.

    What this user has created is remembered where only one node may see it, so the other ranks don't look.

    Args:
        comm: the ranks.
        path: the run's folder, or the file that it was exported to.
        trust: the user says that its code may be imported.
        settings: ``key=value`` texts of this call: what they name is the user's own choice.

    Raises:
        JobFailedError: on all ranks, if there is no such run, or it is not to be trusted.
    """
    with agreement(comm, "reading the run"):
        folder = open_run(path, trust_of(trust), given_by(settings))
        if comm.rank == 0:
            folder.require_run()
            folder.config()
    folder.trust = Trust.YES
    return folder


def given_by(settings: Sequence[str]) -> list[Reference]:
    """What settings of a command line name."""
    return references_in(apply_settings({}, settings))


def remember_run(folder: RunFolder, journal: Path, config: Config, warn: Warn) -> None:
    """Keep in mind that this user trains here, so that the run can be gone on with without being asked for trust.

    Args:
        folder: of the run.
        journal: the file that is its journal, or is about to be renamed to it.
        config: of the run.
        warn: is called with a line if that is not possible, and matters.
    """
    if not remember(folder.place, journal, to_table(config)):
        warn(
            f"{folder.path}: no folder for user state is writable (XDG_STATE_HOME, or .local/state in the home "
            "folder), so esd can't record that the run was created here: commands that import its code need "
            "--trust, or ESD_TRUST=1"
        )
