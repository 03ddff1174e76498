"""A run's folder: what is in it, and what state it can be resumed in. Reading changes nothing.

``config.toml``, ``provenance.json``, ``journal.bin``, ``metrics.jsonl``, ``checkpoints/`` (the last two and the best),
``initial.safetensors`` (only if h_0 came from another run), ``evaluations/``, ``DONE.json`` (written last, on success).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.identity import identity
from esd.config.settings import Config
from esd.config.tables import parse, to_table
from esd.errors import UsageError
from esd.evolution.state import RunState, advance, make_strategy, start
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.run import checkpoint, journal
from esd.run.changed_config import check_unchanged
from esd.run.checkpoint import Checkpoint
from esd.run.files import absolute, write_atomically
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
Warn = Callable[[str], None]


class RunFolder:
    """One run on disk. Make it before anything of the user's runs, which may change the working directory.

    Attributes:
        path: the folder, as the user wrote it: for messages.
        place: the same from the root on: for files.
    """

    def __init__(self, path: Path) -> None:
        """Name a folder; it need not exist."""
        self.path = path
        self.place = place = absolute(path)
        self._lock: int | None = None
        self.config_file = place / "config.toml"
        self.provenance_file = place / "provenance.json"
        self.journal_file = place / "journal.bin"
        self.metrics_file = place / "metrics.jsonl"
        self.checkpoints = place / "checkpoints"
        self.best_file = self.checkpoints / "best.safetensors"
        self.initial_file = place / "initial.safetensors"
        self.evaluations = place / "evaluations"
        self.done_file = place / "DONE.json"

    @property
    def is_run(self) -> bool:
        """Whether a run was ever started here."""
        return self.journal_file.is_file()

    def require_run(self) -> None:
        """Make sure that there is a run.

        Raises:
            UsageError: if there isn't.
        """
        if not self.is_run:
            what = "is not the folder of a run" if self.place.exists() else "does not exist"
            raise UsageError(f"{self.path}: {what} (a run's folder has a journal.bin)")

    def config(self) -> Config:
        """The stored config. Whoever reads anything of a run reads this first.

        Raises:
            UsageError: if it is missing, not valid, or not the one that the journal was begun with.
        """
        try:
            table = tomllib.loads(self.config_file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{self.config_file}: can't be read ({error})") from error
        config = parse({"format": 1} | table, str(self.config_file))
        check_unchanged(config, self.config_file, self.journal_file, self.provenance_file)
        return config

    def journal(self, config: Config) -> JournalContents:
        """The journal, checked to belong to the config.

        Raises:
            UsageError: if it is damaged or another run's.
        """
        try:
            data = self.journal_file.read_bytes()
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
        """The states kept, newest first."""
        return sorted(self.checkpoints.glob("generation-*.safetensors"), reverse=True)

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
        if self.initial_file.exists():
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

    def done(self) -> dict[str, Any] | None:
        """What DONE.json says, or None if the run is not finished.

        Raises:
            UsageError: if it can't be read.
        """
        try:
            done: dict[str, Any] = json.loads(self.done_file.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.done_file}: can't be read ({error})") from error
        return done

    def lock(self) -> None:
        """Hold the folder until ``unlock``, or the end of this process.

        Raises:
            UsageError: if another process trains in it.
        """
        descriptor = os.open(self.place / "lock", os.O_RDWR | os.O_CREAT, 0o644)
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
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path}: can't be created ({error.strerror})") from error
        self.lock()
        if erase:
            self._erase()
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
        if self.journal_file.read_bytes() != journal_as_planned:
            raise UsageError(f"{self.path}: another esd has trained here meanwhile; start again")
        self.store_config(config)
        self.add_provenance(provenance)

    def add_provenance(self, call: dict[str, Any]) -> None:
        """Add a training call to provenance.json, which holds all of them, oldest first."""
        calls = []
        if self.provenance_file.exists():
            calls = json.loads(self.provenance_file.read_text("utf-8"))
        write_atomically(
            self.provenance_file, json.dumps([*calls, call], indent=2).encode() + b"\n"
        )

    def store_config(self, config: Config) -> None:
        """Write config.toml."""
        write_atomically(self.config_file, tomli_w.dumps(to_table(config)).encode())

    def _erase(self) -> None:
        """Remove what esd has written here, and nothing else."""
        for name in OWN_NAMES:
            path = self.place / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


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
