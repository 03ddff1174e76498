"""What a training call is going to do, decided on rank 0 before anything is written, then told to all ranks."""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd.config.experiment_files import read_experiment, read_own
from esd.config.identity import differences_that_matter
from esd.config.references import Reference, references_in
from esd.config.settings import DEFAULT_EXPERIMENT, FORMAT, Config
from esd.config.tables import apply_settings, flatten, parse, to_table
from esd.config.unused_settings import without_effect
from esd.errors import UsageError, shown
from esd.policies.registry import find_kind, with_own_defaults
from esd.run import journal, metrics
from esd.run.files import absolute
from esd.run.folder import OWN_NAMES, RunFolder, Warn
from esd.run.journal import JournalContents
from esd.run.provenance import origin_of
from esd.run.recovery import Source, load, newest_state
from esd.run.run_file import open_run
from esd.run.training_folder import check_writable
from esd.run.trust import Trust, trust_of
from esd.training.default_folder import default_folder
from esd.training.merged_rules import with_assignment, with_assignment_of
from esd.training.trusted import given_by

MOST_NAMED = 5  # settings in a message


@dataclass(frozen=True)
class TrainRequest:
    """A call of ``esd train``, as the user wrote it.

    Attributes:
        experiment: a shipped experiment or a TOML file; None for the settings of the run that is in the folder or
            that is started from, or else the default.
        run: the run's folder; None for the one that ``default_folder`` names.
        settings: ``key=value`` texts.
        fresh: start anew although the folder holds a run.
        yes: really overwrite it.
        start_from: a run whose last h is the new run's h_0.
        trust: import what a run that was not created here names.
    """

    experiment: str | None = None
    run: Path | None = None
    settings: Sequence[str] = ()
    fresh: bool = False
    yes: bool = False
    start_from: Path | None = None
    trust: bool = False

    def folder(self, path: Path, config: Config | None = None) -> RunFolder:
        """A folder that the call names, of which what the user's own settings name may be imported.

        Args:
            path: of the folder.
            config: the settings of the user's own experiment and command line; None if they come from a run.
        """
        return RunFolder(path, trust_of(self.trust), self._given(config))

    def parent(self, config: Config | None = None) -> RunFolder:
        """The run that the new one starts from, a folder or a file; ``config`` as of ``folder``."""
        assert self.start_from is not None
        return open_run(self.start_from, trust_of(self.trust), self._given(config))

    def _given(self, config: Config | None) -> list[Reference]:
        return references_in(to_table(config)) if config is not None else given_by(self.settings)


@dataclass(frozen=True)
class Plan:
    """What every rank needs to know.

    Attributes:
        config: of the run, with what was changed on this call.
        folder: the run's folder.
        journal: the head of the journal if the run is resumed (``JournalContents.head``); empty for a new run.
        checkpoint: the checkpoint to resume from; None for h_0.
        start_from: the folder of the run that h_0 comes from, for a new run.
        source: which of that run's states.
        erase: remove the run that is in the folder first.
        unbegun: the run to be erased has no generation yet; if it has by then, it stays.
        finished: why there is nothing left to do, and how to extend the run; empty otherwise.
        ended: why the last generation kept was the last one of all, of a run that was killed before it said so;
            empty otherwise. All that is left is to end it.
    """

    config: Config
    folder: Path
    journal: bytes = b""
    checkpoint: Path | None = None
    start_from: Path | None = None
    erase: bool = False
    finished: str = ""
    ended: str = ""
    unbegun: bool = False
    source: Source | None = None

    @property
    def resumes(self) -> bool:
        """Whether there is something to go on from."""
        return bool(self.journal)

    def encode(self) -> bytes:
        """As bytes, for the other ranks: settings and names, whatever the journal's size."""
        return json.dumps(
            {
                "config": to_table(self.config),
                "folder": str(self.folder),
                "journal": base64.b64encode(self.journal).decode(),
                "checkpoint": self.checkpoint and str(self.checkpoint),
                "start_from": self.start_from and str(self.start_from),
                "erase": self.erase,
                "finished": self.finished,
                "ended": self.ended,
                "unbegun": self.unbegun,
                "source": self.source
                and [
                    self.source.generation,
                    self.source.checkpoint and str(self.source.checkpoint),
                ],
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        """The inverse of ``encode``."""
        plan = json.loads(data)
        return cls(
            parse(plan["config"], "rank 0's config"),
            Path(plan["folder"]),
            base64.b64decode(plan["journal"]),
            plan["checkpoint"] and Path(plan["checkpoint"]),
            plan["start_from"] and Path(plan["start_from"]),
            plan["erase"],
            plan["finished"],
            plan["ended"],
            plan["unbegun"],
            plan["source"]
            and Source(plan["source"][0], plan["source"][1] and Path(plan["source"][1])),
        )


def folder_of_request(request: TrainRequest) -> Path:
    """Where a request's run is, or will be.

    Raises:
        UsageError: for what is wrong with its experiment or settings.
    """
    return _config_and_folder(request)[1].path


def make_plan(request: TrainRequest, warn: Warn) -> Plan:
    """Decide what to do; reads, but writes nothing.

    Raises:
        UsageError: for anything that the user has to change first.
    """
    config, folder = _config_and_folder(request)
    if not request.fresh:
        folder.refuse_lost_journal()
    place = folder.place
    here = {path.name for path in place.iterdir()} if place.is_dir() else set()
    others = place.exists() and (not place.is_dir() or here - {"lock", *OWN_NAMES})
    if others and not folder.is_run and not here & {*OWN_NAMES}:
        raise UsageError(f"{folder.path}: exists and is not a run; use another folder with --run")
    check_writable(folder.place)
    named = _named(request)
    for line in without_effect(named, config):
        warn(line)
    unbegun = folder.is_run and not request.fresh and _has_no_generation(folder)
    source = None
    if request.start_from is not None and folder.is_run and not request.fresh and not unbegun:
        _check_same_parent(folder, request.start_from)
    elif request.start_from is not None:
        own = config if request.experiment is not None else None
        parent = request.parent(own)
        source = newest_state(parent, warn)
        found = source
        config = with_assignment(config, parent, lambda: load(parent, parent.config(), found))
    new = Plan(config, folder.path, start_from=request.start_from, source=source)
    if request.fresh and (folder.is_run or folder.remains):
        if not request.yes:
            raise UsageError(
                f"{folder.path}: contains a run, which --fresh would delete; add --yes to confirm"
            )
        return dataclasses.replace(new, erase=True)
    if folder.is_cut_off_start:
        if not request.fresh:
            _check_same_start(folder, config, named, request)
        return dataclasses.replace(new, erase=True)
    if not folder.is_run:
        return new
    if unbegun and (request.start_from is not None or _is_another(folder, config, named)):
        warn(
            f"{folder.path}: contains a run that ended before its first generation; it is replaced"
        )
        return dataclasses.replace(new, erase=True, unbegun=True)
    stored = _to_compare(folder)
    config = _completed(config, stored, named)
    differences = differences_that_matter(stored, config)
    if differences:
        may_change = (
            "generations, device, batch_members, env.compiled, env.episode_seconds, env.on_failure, [run] and unseen "
            "variants"
        )
        if config.objective.named:
            may_change = "generations, [run], objective.max_seconds, on_failure and check_at_start"
        raise UsageError(
            f"{folder.path}: contains a run with other settings: {'; '.join(differences)}. "
            f"Only {may_change} can change on resume; use another folder with --run, or overwrite the run with "
            "--fresh"
        )
    stored = folder.config()
    _tell_change_of_device(stored, config, warn)
    paths = folder.checkpoint_files()
    contents = folder.journal(stored)
    checkpoint = folder.newest_checkpoint(paths, stored, contents, warn)
    finished = _why_finished(folder, config, contents.next_generation, warn)
    if finished and stored.env.variants != config.env.variants:
        warn(
            "unseen variants are stored only if the run continues; to evaluate a finished run on others: esd eval "
            f"{shlex.quote(str(folder.path))} --set 'env.variants=[…]'"
        )
    if finished:
        finished += _not_applied(stored, config)
    ended = "" if finished else _why_ended(config, contents)
    return Plan(config, folder.path, contents.head, checkpoint, finished=finished, ended=ended)


def _check_same_parent(folder: RunFolder, start_from: Path) -> None:
    """Refuse to go on with a run that was started from another one than the call names.

    Raises:
        UsageError: if it was, or nobody knows.
    """
    if origin_of(folder.provenance_file) != str(absolute(start_from)):
        raise UsageError(
            f"{folder.path}: contains a run that was not started from {start_from}. To continue it, leave out --from: "
            f"esd train --run {shlex.quote(str(folder.path))}. To start a new run, choose another folder with --run"
        )


def _check_same_start(
    folder: RunFolder, config: Config, named: dict[str, Any], request: TrainRequest
) -> None:
    """Refuse to start another run than the one whose start was cut off in a folder.

    Raises:
        UsageError: if it is another.
    """
    differences = []
    if folder.config_file.exists():
        stored = _to_compare(folder)
        differences = differences_that_matter(stored, _completed(config, stored, named))
        if folder.initial_file.exists() and request.start_from is None:
            differences.append("it was started with --from another run")
    if differences:
        raise UsageError(
            f"{folder.path}: the start of another run in this folder was interrupted: {'; '.join(differences)}. Run "
            "that command again, or delete its files with --fresh --yes"
        )


def _tell_change_of_device(stored: Config, config: Config, warn: Warn) -> None:
    """Say what another device means for the bits from here on."""
    before, now = (
        f"device = {c.device}, batch_members = {c.batch_members}" for c in (stored, config)
    )
    if before != now:
        bits = (
            "the same bits"
            if find_kind(config.policy)[0].same_bits
            else "results that differ in the last bits (docs/devices.md explains this)"
        )
        warn(f"from here on {now}, before {before}: {bits}")


def _why_finished(folder: RunFolder, config: Config, generations: int, warn: Warn) -> str:
    """Whether a run has nothing left to do under a config, and if so what to say."""
    done = folder.done(warn)
    if done is None:
        return ""
    extend = f"to continue: esd train --run {shlex.quote(str(folder.path))} --set generations={2 * generations or 1}"
    if generations >= config.generations:
        return f"{folder.path} is finished: all {generations} generations are done; {extend}"
    target, best = config.run.target_return, done.get("best_center_return")
    if (
        done["reason"] == "target_return"
        and target is not None
        and best is not None
        and config.sign * best >= config.sign * target
    ):
        further = "raise" if config.sign > 0 else "lower"
        return (
            f"{folder.path} is finished: its center reached {best:g} of run.target_return = {target:g} after "
            f"{generations} generations; to continue, {further} run.target_return with --set"
        )
    return ""


def _why_ended(config: Config, contents: JournalContents) -> str:
    """Why the last generation that was kept is the last one of all; empty if it isn't."""
    last = contents.entries(contents.next_generation - 1, contents.next_generation)
    reached = any(metrics.reaches_target(config, records) for _, records in last)
    return "target_return" if reached else ""


def _not_applied(stored: Config, config: Config) -> str:
    """What to add about settings that a finished run does not have; empty if it has them all."""
    before, now = (flatten(to_table(each)) for each in (stored, config))
    changed = [
        f"{key} = {shown(now.get(key, 'unset'))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not key.startswith("env.variants")
    ]
    if not changed:
        return ""
    more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
    return f"; not applied, because the run is finished: {', '.join(changed[:MOST_NAMED])}{more}"


def _config_and_folder(request: TrainRequest) -> tuple[Config, RunFolder]:
    """The config asked for and where it runs; a run that is gone on with or started from brings its own along."""
    if request.run is not None and request.experiment is None and not request.fresh:
        folder = request.folder(request.run)
        folder.refuse_lost_journal()
        if folder.is_run:
            config = _changed(to_table(folder.config()), request.settings, str(folder.config_file))
            return config, folder
    if request.start_from is not None and request.experiment is None:
        parent = request.parent()
        if not parent.remains:  # without its journal, too, it may have a checkpoint
            parent.require_run()
        if request.run is None:
            raise UsageError(
                f"--from {parent.path}: starts a new run with the settings of this one; set its folder with --run"
            )
        table = {**to_table(parent.config()), "format": FORMAT}
        config = _changed(table, request.settings, str(parent.config_file))
        return config, request.folder(request.run)
    name, table = read_experiment(request.experiment or DEFAULT_EXPERIMENT)
    config = _changed(table, request.settings, name)
    if request.run is not None:
        return config, request.folder(request.run, config)
    try:
        before = parse(table, name)
    except UsageError:  # it needs what --set adds to it
        before = None
    path = default_folder(name, before, config, request.settings)
    return config, request.folder(path, config)


def _changed(table: dict[str, Any], settings: Sequence[str], source: str) -> Config:
    """The config of a table that --set changes.

    Raises:
        UsageError: for what is wrong with it; --set is named as its source if the table alone is right.
    """
    changed = apply_settings(table, settings)
    try:
        config = parse(changed, source)
    except UsageError:
        if not _is_valid(table):
            raise
        config = parse(changed, "--set")
    return on_a_device(config)


def _is_valid(table: dict[str, Any]) -> bool:
    try:
        parse(table, "")
    except UsageError:
        return False
    return True


def _to_compare(folder: RunFolder) -> Config:
    """The settings of a folder's run, only to be compared: nothing is imported for that."""
    return RunFolder(folder.path, Trust.NEVER).config()


def _has_no_generation(folder: RunFolder) -> bool:
    """Whether a run was refused, or stopped, before its journal had a generation: nothing of worth is in it."""
    try:
        return not folder.results and not journal.scan(folder.journal_file, verify=False).positions
    except (OSError, UsageError):
        return False


def _is_another(folder: RunFolder, config: Config, named: dict[str, Any]) -> bool:
    """Whether a config asks for another run than the one in a folder."""
    stored = _to_compare(folder)
    return bool(differences_that_matter(stored, _completed(config, stored, named)))


def _completed(config: Config, stored: Config, named: dict[str, Any]) -> Config:
    """The config with what a call leaves out and the stored run has from its start.

    That is its format, its shared rules, and the defaults of a user's policy.
    """
    if "format" not in named:
        config = dataclasses.replace(config, format=stored.format)
    config = with_own_defaults(config, stored)
    return with_assignment_of(config, stored)


def _named(request: TrainRequest) -> dict[str, Any]:
    """The settings that the user has written: those of --set and of files, not those of shipped experiments."""
    table = {} if request.experiment is None else read_own(request.experiment)
    return flatten(apply_settings(table, request.settings))


def on_a_device(config: Config) -> Config:
    """The config with ``device`` and ``batch_members`` as they will be stored; torch is imported only for lock-step."""
    if not config.lockstep:
        return config
    from esd.lockstep import require_torch

    require_torch(config)
    from esd.lockstep.device import resolved

    return resolved(config)
