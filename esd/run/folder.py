"""A run's folder: what is in it, and what state it can be resumed in. Reading changes nothing.

``config.toml``, ``provenance.json``, ``journal.bin``, ``metrics.jsonl``, ``checkpoints/`` (the last two and the best),
``initial.safetensors`` (only if h_0 came from another run), ``evaluations/``, ``in_progress/`` and ``disagreement/``
(see ``docs/runs.md``), ``launches.jsonl`` (by ``esd launch``), ``logs/`` (of ``run.loggers``), ``DONE.json`` (written
last, on success).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any

from esd.config.identity import identity
from esd.config.nearby import look_near
from esd.config.references import Reference
from esd.config.settings import LOW_RANK, Config
from esd.config.tables import parse, to_table
from esd.errors import UntrustedError, UsageError, shown
from esd.evolution.layout import Layout
from esd.evolution.state import RunState, advance, make_strategy, start
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.reading import MB, read_json, read_toml
from esd.run import checkpoint, journal, metrics
from esd.run.changed_config import check_unchanged
from esd.run.checkpoint import Checkpoint
from esd.run.files import (
    absolute,
    check_kind,
)
from esd.run.journal import DamagedJournalError, JournalContents, JournalHeader
from esd.run.trust import Trust, names_foreign_code, require_trust

OWN_NAMES = (
    "config.toml",
    "provenance.json",
    "journal.bin",
    "metrics.jsonl",
    "checkpoints",
    "initial.safetensors",
    "evaluations",
    "DONE.json",
    "launches.jsonl",
    "disagreement",
    "in_progress",
    "logs",
)
OWN_FOLDERS = ("checkpoints", "evaluations", "disagreement", "in_progress", "logs")
LONGEST_REASON = 40  # characters of why a run ended, in DONE.json
Warn = Callable[[str], None]


class RunFolder:
    """One run on disk. Make it before anything of the user's runs, which may change the working directory.

    Attributes:
        path: the folder, as the user wrote it: for messages.
        place: the same from the root on: for files.
        trust: whether code that the run names may be imported.
        given: what the user's own command names, which needs no trust.
    """

    def __init__(
        self, path: Path, trust: Trust = Trust.ASK, given: Collection[Reference] = ()
    ) -> None:
        """Name a folder; it need not exist."""
        self.path = path
        self.trust = trust
        self.given = given
        self.place = place = absolute(path)
        self.config_file = place / "config.toml"
        self.provenance_file = place / "provenance.json"
        self.journal_file = place / "journal.bin"
        self.metrics_file = place / "metrics.jsonl"
        self.checkpoints = place / "checkpoints"
        self.in_progress = place / "in_progress"  # records of a generation that is not complete
        self.disagreement = place / "disagreement"  # states of nodes that had different ones
        self.best_file = self.checkpoints / "best.safetensors"
        self.initial_file = place / "initial.safetensors"
        self.evaluations = place / "evaluations"
        self.done_file = place / "DONE.json"
        self.logs = place / "logs"  # of run.loggers
        self.launches_file = place / "launches.jsonl"  # what esd launch had to do

    @property
    def is_run(self) -> bool:
        """Whether a run was ever started here."""
        return _is_there(self.journal_file) and not self.is_cut_off_start

    @property
    def is_cut_off_start(self) -> bool:
        """Whether a run was being started here when its process died: the same command starts it again."""
        try:
            found = self.journal_file.lstat()
        except OSError:
            return False
        return S_ISREG(found.st_mode) and not found.st_size and not self.results

    @property
    def remains(self) -> list[str]:
        """What is left of a run whose journal is missing; nothing if the journal is there, or there never was one."""
        if _is_there(self.journal_file):
            return []
        begun = [self.config_file, self.provenance_file, self.initial_file]
        return [path.name for path in begun if _is_there(path)] + self.results

    @property
    def results(self) -> list[str]:
        """What is here only after a generation of a run."""
        folders = [self.checkpoints, self.evaluations]
        files = [self.metrics_file, self.done_file]
        return [path.name for path in files if _is_there(path)] + [
            f"{path.name}/" for path in folders if path.is_dir() and any(path.iterdir())
        ]

    def require_run(self) -> None:
        """Make sure that there is a run.

        Raises:
            UsageError: if there isn't.
        """
        self.refuse_lost_journal()
        if not self.is_run:
            what = "is not the folder of a run" if self.place.exists() else "does not exist"
            raise UsageError(f"{self.path}: {what} (a run's folder has a journal.bin)")

    def refuse_lost_journal(self) -> None:
        """Refuse a folder in which there was a run whose journal is gone.

        Raises:
            UsageError: with what is there and what can be done.
        """
        remains = self.remains
        if remains:
            where = shlex.quote(str(self.path))
            newest = ""
            if self.checkpoint_files() or _is_there(self.best_file):
                newest = f", start a new run from its newest checkpoint (esd train --from {where} --run NEW)"
            raise UsageError(
                f"{self.path}: journal.bin is missing ({', '.join(remains)} {'is' if len(remains) == 1 else 'are'} "
                "there), and without it a run can't be resumed, shown or evaluated. Restore journal.bin from a "
                f"copy{newest}, or delete the remaining files and start from scratch: add --run {where} --fresh "
                "--yes to esd train"
            )

    def for_trust(self) -> tuple[Path, Path, str]:
        """What ``require_trust`` knows a run by: its path, its journal or its file, and the sha256 of a file."""
        return self.path, self.journal_file, ""

    def config(self) -> Config:
        """The stored config. Whoever reads anything of a run reads this first.

        Raises:
            UsageError: if it is missing, not valid, or not the one that the journal was begun with; an
                ``UntrustedError`` if it names code that may not be imported, unless ``trust`` is NEVER: such a config
                is to be looked at.
        """
        try:
            table = read_toml(self.config_file)
        except FileNotFoundError:
            raise UsageError(f"{self.config_file}: missing; restore it from a copy") from None
        look_near(self.place)
        if self.trust is Trust.ASK:
            require_trust(self.path, self.journal_file, table, self.given)
        importing = self.trust is not Trust.NEVER
        config = parse({"format": 1} | table, str(self.config_file), importing)
        check_unchanged(config, self.config_file, self.journal_file, self.provenance_file)
        return config

    def _check_imports(self, config: Config, section: str, what: str) -> None:
        """Refuse to compute what takes code that this command never imports.

        Raises:
            UntrustedError: naming the code.
        """
        if self.trust is not Trust.NEVER:
            return
        for reference in names_foreign_code(to_table(config), section):
            why = "which this command never imports; use esd.Run(folder).h(generation) in Python"
            if not reference.module:
                why = "of a package that is not installed here; install it"
            raise UntrustedError(
                f"{self.path}: {what} can only be rebuilt with the code of {reference.setting} = "
                f"{shown(reference.text)}, {why}"
            )

    def _check_replay(self, config: Config, generation: int) -> None:
        """Refuse to rebuild a generation's h if that takes code that this command never imports.

        Raises:
            UntrustedError: naming the code.
        """
        for section in ("es", "policy") if config.es.noise == LOW_RANK else ("es",):
            self._check_imports(config, section, f"h_{generation}")

    def journal(self, config: Config, verify: bool = True) -> JournalContents:
        """The journal, checked to belong to the config.

        Args:
            config: of the run.
            verify: check every record now; otherwise each when it is read.

        Raises:
            UsageError: if it is damaged or another run's.
        """
        contents, damage = self.good_part(config, verify)
        if damage is not None:
            raise UsageError(f"{damage}. {self._way_on(config, contents)}") from damage
        assert contents is not None
        return contents

    def good_part(
        self, config: Config, verify: bool = True
    ) -> tuple[JournalContents | None, DamagedJournalError | None]:
        """The journal up to where it is damaged, if it is, and the error that says where.

        Raises:
            UsageError: if it can't be read, or is another run's.
        """
        damage: DamagedJournalError | None = None
        contents: JournalContents | None
        try:
            contents = journal.scan(self.journal_file, verify)
        except DamagedJournalError as error:
            contents, damage = error.before, error
        if contents is not None and contents.header.identity != identity(config):
            raise UsageError(
                f"{self.journal_file}: belongs to a run with another config than {self.config_file}"
            )
        return contents, damage

    def _way_on(self, config: Config, before: JournalContents | None) -> str:
        """What can be done about a damaged journal, by what stands before the damage."""
        file, where = (shlex.quote(str(path)) for path in (self.journal_file, self.path))
        start = f"esd train --from {where} --run NEW"
        good = before.next_generation if before is not None else -1
        newest = self.newest_good_checkpoint(config, lambda text: None)
        generation = -1 if newest is None else newest[1]
        if before is None:
            way = "" if newest is None else f", or start a new run from h_{generation}: {start}"
            return f"Restore it from a copy{way}"
        again = f"cut it there (truncate -s {before.good_bytes} {file})"
        if newest is None or generation <= good:
            return f"Restore it from a copy, or {again} to continue from generation {good}"
        return (
            f"The newest undamaged state is h_{generation}, from {newest[0].name}: start a new run from it with "
            f"{start}. To keep this run, restore the journal from a copy; or {again} and remove the checkpoints of "
            f"generations after {good}: they are evaluated again, with the same bits"
        )

    def newest_good_checkpoint(self, config: Config, warn: Warn) -> tuple[Path, int] | None:
        """The checkpoint of the latest generation that is whole and this run's, the best one included.

        Args:
            config: of the run.
            warn: told of those that are ignored.

        Returns:
            Its path and generation; None if there is none.
        """
        found: list[tuple[int, Path]] = []
        for path in [*self.checkpoint_files(), self.best_file]:
            if not _is_there(path):
                continue
            try:
                found.append((self.load_checkpoint(path, config).state.generation, path))
            except UsageError as error:
                warn(f"{error}; ignored")
        generation, path = max(found, key=lambda pair: pair[0], default=(-1, self.best_file))
        return None if generation < 0 else (path, generation)

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
        """The newest good checkpoint; a damaged one is ignored, since the journal makes up for it.

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
                    warn(f"{error}; ignored, its state is rebuilt from the journal")
                continue
            if loaded.identity != identity(config):
                raise UsageError(f"{path}: a checkpoint of another run; remove it from the folder")
            if loaded.state.generation > contents.next_generation:
                raise UsageError(
                    f"{self.journal_file}: ends before generation {contents.next_generation}, but there is a "
                    f"checkpoint of generation {loaded.state.generation}: it was cut short. Restore it from a copy, "
                    f"start a new run from the checkpoint (esd train --from {shlex.quote(str(self.path))} --run "
                    f"NEW), or remove the checkpoints of generations after {contents.next_generation}: they are "
                    "evaluated again, with the same bits"
                )
            return path
        return None

    def initial_state(self, config: Config, header: JournalHeader) -> RunState:
        """state_0: from the seed, or from ``initial.safetensors`` for a run that was started from another one's h.

        Raises:
            UsageError: if h_0 is not the one that the journal was begun with.
        """
        if os.path.lexists(self.initial_file):
            state = self.load_checkpoint(self.initial_file, config).state
        else:
            self._check_imports(config, "policy", "h_0")
            self._check_imports(config, "es", "h_0")
            layout, h0 = layout_and_h0(config, header.interface)
            normalizes = config.env.normalize_observations
            size = header.observation_size if normalizes else 0
            state = start(make_strategy(config, layout), h0, size)
        if state.h_sha256() != header.h0_sha256:
            begun = (
                ""
                if is_regular(self.initial_file)
                else f"{self.initial_file.name} was removed, or "
            )
            raise UsageError(
                f"{self.path}: h_0 differs from the h_0 at the start of the run: {begun}the policy's code has "
                "changed; restore it from a copy"
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
        if wanted:
            self._check_replay(config, wanted)
        return replay(config, self.initial_state(config, contents.header), contents, wanted)

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
            else self.initial_state(config, contents.header)
        )
        if state.generation < contents.next_generation:
            self._check_replay(config, contents.next_generation)
        return replay(config, state, contents, contents.next_generation)

    def done(self, warn: Warn | None = None) -> dict[str, Any] | None:
        """What DONE.json says, or None if the run is not finished.

        Args:
            warn: is called with a line about a damaged one, which is then ignored: training writes it anew.

        Raises:
            UsageError: if it is damaged, without ``warn``.
        """
        try:
            done = read_json(self.done_file, MB)
            if not _is_done(done):
                raise UsageError(f"{self.done_file}: was not written by esd at the end of a run")
        except FileNotFoundError:
            return None
        except UsageError as error:
            if warn is None:
                raise
            warn(
                f"{error}; ignored, and the run counts as not finished; esd train writes the file again"
            )
            return None
        found: dict[str, Any] = done
        return found

    def generation(self, config: Config) -> int:
        """How many updates of h are in the journal."""
        return self.journal(config, verify=False).next_generation

    def generation_of_best(self) -> int | None:
        """The generation of the best checkpoint; None without one."""
        return checkpoint.generation_of(self.best_file)

    def best_center_return(self, config: Config, lines: Sequence[metrics.Line]) -> float | None:
        """The return by which the best checkpoint was chosen; without it the best one in lines of metrics, or None.

        The checkpoint knows better: a run that is extended drops the line of its last center, and
        ``run.center_episodes`` may have changed.
        """
        own = checkpoint.center_return_of(self.best_file)
        if own is not None:
            return metrics.in_own_sign(config, own)
        return metrics.best_return(config, lines)

    def interface(self, config: Config) -> Interface:
        """What the run's policy was built for."""
        return self.journal(config, verify=False).header.interface

    def metrics_lines(self, config: Config, warn: Warn) -> list[metrics.Line]:
        """One line per generation, whatever has become of metrics.jsonl; what is missing is rebuilt from the journal.

        Args:
            config: of the run.
            warn: told in one line of what was.

        Raises:
            UsageError: if the journal can't be read.
        """
        contents = self.journal(config, verify=False)  # first: the run may be going on
        return metrics.completed(self.metrics_file, config, contents, warn)


def is_regular(path: Path) -> bool:
    """Whether a path is a regular file itself, and no link to one."""
    try:
        return S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_done(done: Any) -> bool:
    """Whether DONE.json has what is read of it."""
    best = done.get("best_center_return") if isinstance(done, dict) else ""
    reason = done.get("reason") if isinstance(done, dict) else ""
    return (
        isinstance(best, int | float | None)
        and isinstance(done.get("generation"), int)
        and isinstance(reason, str)
        and reason.isascii()
        and reason.isidentifier()
        and len(reason) <= LONGEST_REASON
    )


def _is_there(path: Path) -> bool:
    """Whether there is anything of this name, a broken link included."""
    return os.path.lexists(path)


def replay(config: Config, state: RunState, contents: JournalContents, generation: int) -> RunState:
    """Advance a state by the journal's records up to a generation."""
    if state.generation >= generation:
        return state
    layout = Layout({"h": state.h.shape})
    if config.es.noise == LOW_RANK:  # only then: of a user's policy only its code knows the arrays
        layout, _ = layout_and_h0(config, contents.header.interface)
    strategy = make_strategy(config, layout)
    for _, records in contents.entries(state.generation, generation):
        state = advance(strategy, state, records)
    return state
