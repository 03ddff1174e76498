"""A run's folder: what is in it, and what state it can be resumed in. Reading changes nothing.

``config.toml``, ``provenance.json``, ``journal.bin``, ``metrics.jsonl``, ``checkpoints/`` (the last two and the best),
``initial.safetensors`` (only if h_0 came from another run), ``evaluations/``, ``DONE.json`` (written last, on success).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.identity import identity
from esd.config.settings import Config
from esd.config.tables import parse, to_table
from esd.errors import RunError, UsageError
from esd.evolution.state import RunState, advance, make_strategy, start
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.reading import MB, open_regular, read_json, read_toml
from esd.run import checkpoint, journal, provenance
from esd.run.checkpoint import Checkpoint
from esd.run.files import check_kind, open_for_writing, remove_stale, write_atomically
from esd.run.journal import JournalContents

OWN_NAMES = (
    "config.toml",
    "provenance.json",
    "journal.bin",
    "metrics.jsonl",
    "checkpoints",
    "initial.safetensors",
    "evaluations",
    "DONE.json",
)
OWN_FOLDERS = ("checkpoints", "evaluations")
Warn = Callable[[str], None]


class RunFolder:
    """One run on disk.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        """Name a folder; it need not exist."""
        self.path = path
        self._lock: int | None = None
        self.config_file = path / "config.toml"
        self.provenance_file = path / "provenance.json"
        self.journal_file = path / "journal.bin"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.best_file = self.checkpoints / "best.safetensors"
        self.initial_file = path / "initial.safetensors"
        self.evaluations = path / "evaluations"
        self.done_file = path / "DONE.json"

    @property
    def is_run(self) -> bool:
        """Whether a run was ever started here."""
        return is_regular(self.journal_file)

    def require_run(self) -> None:
        """Make sure that there is a run.

        Raises:
            UsageError: if there isn't.
        """
        if not self.is_run:
            what = "is not the folder of a run" if self.path.exists() else "does not exist"
            raise UsageError(f"{self.path}: {what} (a run's folder has a journal.bin)")

    def config(self) -> Config:
        """The stored config.

        Raises:
            UsageError: if it is missing or not valid.
        """
        try:
            table = read_toml(self.config_file)
        except FileNotFoundError:
            raise UsageError(f"{self.config_file}: missing; restore it from a copy") from None
        return parse({"format": 1} | table, str(self.config_file))

    def journal(self, config: Config) -> JournalContents:
        """The journal, checked to belong to the config.

        Raises:
            UsageError: if it is damaged or another run's.
        """
        try:
            with open_regular(self.journal_file) as file:
                data = file.read()
        except OSError as error:
            raise UsageError(f"{self.journal_file}: can't be read ({error.strerror})") from error
        contents = journal.decode(data, str(self.journal_file))
        if contents.header.identity != identity(config):
            raise UsageError(
                f"{self.journal_file}: belongs to a run with another config than {self.config_file}"
            )
        return contents

    def checkpoint_file(self, generation: int) -> Path:
        """Where a state is kept."""
        return self.checkpoints / f"generation-{generation:08d}.safetensors"

    def checkpoint_files(self) -> list[Path]:
        """The states kept, newest first; only regular files beneath the folder itself.

        Raises:
            UsageError: if the folder is a symbolic link.
        """
        check_kind(self.checkpoints, folder=True)
        found = self.checkpoints.glob("generation-*.safetensors")
        return sorted((path for path in found if is_regular(path)), reverse=True)

    def load_checkpoint(self, path: Path, config: Config) -> Checkpoint:
        """A checkpoint, checked to belong to the config.

        Raises:
            UsageError: if it is missing, damaged or another run's.
        """
        loaded = checkpoint.load(path)
        if loaded.identity != identity(config):
            raise UsageError(
                f"{path}: a checkpoint of another run (its settings are not those of {self.config_file})"
            )
        return loaded

    def newest_checkpoint(
        self, paths: list[Path], config: Config, contents: JournalContents, warn: Warn
    ) -> Path | None:
        """The newest good checkpoint; a damaged one is passed over, since the journal makes up for it.

        Args:
            paths: ``checkpoint_files`` as they were before the journal was read: while the run is being trained,
                a newer one may have come since.
            config: of the run.
            contents: its journal.
            warn: told of a damaged one.

        Raises:
            UsageError: if one is another run's, or of a later generation than the journal reaches.
        """
        for path in paths:
            try:
                loaded = checkpoint.load(path)
            except UsageError as error:
                if path.exists():  # it may have been superseded since
                    warn(f"{error}; passed over, its state is rebuilt from the journal")
                continue
            if loaded.identity != identity(config):
                raise UsageError(f"{path}: a checkpoint of another run; take it out of the folder")
            if loaded.state.generation > contents.next_generation:
                raise UsageError(
                    f"{self.journal_file}: ends before generation {contents.next_generation}, but there is a "
                    f"checkpoint of generation {loaded.state.generation}: it was cut short. Restore it from a copy, or "
                    "start a new run from the checkpoint (esd train --from)"
                )
            return path
        return None

    def initial_state(self, config: Config, contents: JournalContents) -> RunState:
        """state_0: from the seed, or from ``initial.safetensors`` for a run that was started from another one's h.

        Raises:
            UsageError: if h_0 is not the one that the journal was begun with.
        """
        header = contents.header
        if os.path.lexists(self.initial_file):
            state = self.load_checkpoint(self.initial_file, config).state
        else:
            interface = Interface(header.observation_size, header.action_size, header.bounded)
            _, h0 = layout_and_h0(config, interface)
            normalizes = config.env.normalize_observations
            size = interface.observation_size if normalizes else 0
            state = start(make_strategy(config), h0, size)
        if state.h_sha256() != header.h0_sha256:
            raise UsageError(
                f"{self.path}: h_0 comes out differently than when the run was started; the policy's code has changed"
            )
        return state

    def state_at(
        self, generation: int | None, config: Config, contents: JournalContents
    ) -> RunState:
        """Rebuild the state before generation t from h_0 and the journal alone, without one episode.

        Args:
            generation: t; None for the last one.
            config: of the run.
            contents: its journal.

        Raises:
            UsageError: if the journal doesn't reach so far.
        """
        last = contents.next_generation
        wanted = last if generation is None else generation
        if not 0 <= wanted <= last:
            raise UsageError(
                f"generation {wanted}: the journal of {self.path} has generations 0 to {last}"
            )
        return replay(config, self.initial_state(config, contents), contents, wanted)

    def last_state(self, config: Config, warn: Warn) -> RunState:
        """The state that training would go on from: newest good checkpoint, then the journal.

        Raises:
            UsageError: see ``newest_checkpoint`` and ``initial_state``.
        """
        paths = self.checkpoint_files()
        contents = self.journal(config)
        path = self.newest_checkpoint(paths, config, contents, warn)
        state = (
            self.load_checkpoint(path, config).state
            if path is not None
            else self.initial_state(config, contents)
        )
        return replay(config, state, contents, contents.next_generation)

    def done(self, warn: Warn | None = None) -> dict[str, Any] | None:
        """What DONE.json says, or None if the run is not finished.

        Args:
            warn: is called with a line about a damaged one, which is then passed over: training writes it anew.

        Raises:
            UsageError: if it is damaged, without ``warn``.
        """
        try:
            done = read_json(self.done_file, MB)
            if not _is_done(done):
                raise UsageError(f"{self.done_file}: not what esd writes at the end of a run")
        except FileNotFoundError:
            return None
        except UsageError as error:
            if warn is None:
                raise
            warn(
                f"{error}; passed over, as if the run were not finished: esd train writes it again"
            )
            return None
        found: dict[str, Any] = done
        return found

    def lock(self) -> None:
        """Hold the folder until ``unlock``, or the end of this process.

        Raises:
            UsageError: if another process trains in it.
        """
        try:
            descriptor = open_for_writing(self.path / "lock", os.O_RDWR)
        except OSError as error:
            raise UsageError(f"{self.path / 'lock'}: can't be opened ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"{self.path}: another esd is training in this folder") from None
        except OSError:  # a file system without locks: then nobody can be kept out
            os.close(descriptor)
        else:
            self._lock = descriptor

    def unlock(self) -> None:
        """Let others train in the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self, config: Config, provenance: dict[str, Any], erase: bool) -> None:
        """Make the folder with its config and provenance.

        Args:
            config: of the new run.
            provenance: of this call.
            erase: remove the run that is there, once nobody can be training in it.

        Raises:
            UsageError: if that isn't possible.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path}: can't be created ({error.strerror})") from error
        self.lock()
        if erase:
            self._erase()
        self._check_and_tidy()
        if self.is_run:
            raise UsageError(f"{self.path}: another esd has started a run here meanwhile")
        self.checkpoints.mkdir(exist_ok=True)
        self.store_config(config)
        self.add_provenance(provenance)

    def reopen(self, config: Config, provenance: dict[str, Any], journal_as_planned: bytes) -> None:
        """Take an existing run up again.

        Raises:
            UsageError: if another process trains in it, or has since the call was planned.
        """
        self.lock()
        self._check_and_tidy()
        if self.journal_file.read_bytes() != journal_as_planned:
            raise UsageError(f"{self.path}: another esd has trained here meanwhile; start again")
        self.store_config(config)
        self.add_provenance(provenance)

    def add_provenance(self, call: dict[str, Any]) -> None:
        """Add a training call to provenance.json, which holds all of them, oldest first.

        A damaged one is kept as it is under another name: nothing depends on it.
        """
        try:
            calls = provenance.read(self.provenance_file)
        except UsageError:
            calls = []
            self.provenance_file.replace(self.path / "provenance.json.damaged")
        write_atomically(
            self.provenance_file, json.dumps([*calls, call], indent=2).encode() + b"\n"
        )

    def store_config(self, config: Config) -> None:
        """Write config.toml."""
        write_atomically(self.config_file, tomli_w.dumps(to_table(config)).encode())

    def _erase(self) -> None:
        """Remove what esd has written here, and nothing else."""
        for name in OWN_NAMES:
            path = self.path / name
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(f"{path}: can't be removed ({error.strerror})") from error

    def _check_and_tidy(self) -> None:
        """Before anything is written: refuse links and whatever else could lead out of the folder.

        Raises:
            UsageError: if there is any.
        """
        for name in OWN_NAMES:
            check_kind(self.path / name, folder=name in OWN_FOLDERS)
        remove_stale(self.path, 0.0)  # those of the training that had the lock before
        remove_stale(self.checkpoints, 0.0)
        remove_stale(self.evaluations)


def is_regular(path: Path) -> bool:
    """Whether a path is a regular file itself, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_done(done: Any) -> bool:
    """Whether DONE.json has what is read of it."""
    best = done.get("best_center_return") if isinstance(done, dict) else ""
    return isinstance(best, int | float | None) and isinstance(done.get("reason"), str)


def replay(config: Config, state: RunState, contents: JournalContents, generation: int) -> RunState:
    """Advance a state by the journal's records up to a generation."""
    strategy = make_strategy(config)
    for number, records in contents.entries:
        if state.generation <= number < generation:
            state = advance(strategy, state, records)
    return state


def check_writable(path: Path) -> None:
    """Make sure that a folder can be written, or created, without writing anything.

    Raises:
        UsageError: if not.
    """
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{path}: {existing} is not a folder; name another one with --run")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(
            f"{path}: no permission to write in {existing}; name another folder with --run"
        )
