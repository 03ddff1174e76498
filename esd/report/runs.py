"""The runs of a report, read without importing anything that they name, and sorted into groups."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.config.tables import to_table
from esd.errors import UntrustedError, UsageError
from esd.evaluation import stored
from esd.evaluation.groups import Group, TrainedRun, runs_of, trained_run
from esd.evolution.layout import Layout
from esd.evolution.state import RunState
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.run import checkpoint, provenance
from esd.run.folder import RunFolder
from esd.run.run_file import RunFile, is_file, open_run
from esd.run.trust import Trust, names_foreign_code
from esd.training.diagnosis import Course, Finding, diagnose

Float32s = npt.NDArray[np.float32]
Line = dict[str, Any]
Warn = Callable[[str], None]

# what every line of metrics has; an exported file may have been written by anyone
NEEDED = {"generation", "env_steps", "seconds", "core_seconds", "return_mean", "center_return"}


@dataclass(frozen=True)
class Parameters:
    """A run's h by the names of its arrays.

    Attributes:
        best: whether it is of the best checkpoint; otherwise it is of the newest one.
        generation: of the checkpoint.
        layout: of h.
        h: float32 [|h|].
        initial: h_0, float32 [|h|]; None for a run that began with another run's.
    """

    best: bool
    generation: int
    layout: Layout
    h: Float32s
    initial: Float32s | None


@dataclass(frozen=True)
class ReportedRun:
    """One run of a report.

    Attributes:
        folder: the run's.
        name: of its folder; with folders above it where two runs of the report would have the same name.
        config: its settings.
        lines: its metrics, one line per generation; the last one of a finished run is the center's alone.
        trained: what a comparison needs.
        evaluations: what ``esd eval`` stored, oldest generation first.
        done: what DONE.json says; None if the run is not finished.
        calls: the training sessions of provenance.json.
        findings: what looks wrong.
        parameters: None where they can't be read without code of the user's.
        states: generation and hash of h of every checkpoint, by which a trace is recognized.
        interface: what the policy was built for.
    """

    folder: RunFolder
    name: str
    config: Config
    lines: list[Line]
    trained: TrainedRun
    evaluations: list[dict[str, Any]]
    done: dict[str, Any] | None
    calls: list[dict[str, Any]]
    findings: list[Finding]
    parameters: Parameters | None
    interface: Interface

    @property
    def objective(self) -> bool:
        """Whether it evolves the parameters of a function."""
        return bool(self.config.objective.named)

    @property
    def members(self) -> list[Line]:
        """The lines of generations with members."""
        return [line for line in self.lines if line["return_mean"] is not None]

    @property
    def centers(self) -> list[Line]:
        """The lines of generations in which the center was evaluated."""
        return [line for line in self.lines if line["center_return"] is not None]

    @property
    def best_center(self) -> float | None:
        """The best return of the center."""
        return self.folder.best_center_return(self.config, self.lines)

    @property
    def status(self) -> str:
        """Whether it is finished, in words."""
        if self.done is None:
            return "not finished"
        reasons = {"generations": "finished", "target_return": "reached its target return"}
        return reasons.get(str(self.done["reason"]), f"finished ({self.done['reason']})")


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone: one way to train.

    Attributes:
        name: of the group.
        runs: of it, at least one, sorted by seed.
    """

    name: str
    runs: list[ReportedRun] = field(default_factory=list)

    @property
    def group(self) -> Group:
        """As a comparison takes it."""
        return Group(self.name, [run.trained for run in self.runs])


def read_arms(words: Sequence[str], warn: Warn) -> list[Arm]:
    """Read the runs that a command line names, and sort them into groups.

    Args:
        words: folders of runs, folders that hold folders of runs, and ``name=PATTERN``.
        warn: is called with a line about what is ignored.

    Raises:
        UsageError: if one of them is not a run, can't be read, or is named twice in different groups.
    """
    arms: dict[str, Arm] = {}
    places: dict[Path, str] = {}
    named: dict[str, str] = {}  # the name of the group that settings belong to
    for name, path, explicit in _paths(words):
        place = path.resolve()
        if place in places:
            if places[place] != name:
                raise UsageError(f"{path}: is in two groups; each run can be in only one")
            continue
        places[place] = name
        try:
            run = read_run(path, warn)
        except UsageError as error:
            if explicit:
                raise
            warn(f"{error}; skipped")
            continue
        # a user may put runs that began with other h into one group; we don't
        origin = "" if name else run.trained.h0
        key = json.dumps([name, run.trained.settings, origin], sort_keys=True, default=str)
        if name and named.setdefault(name, key) != key:
            raise UsageError(
                f"{name}: {path} differs from the first run of this group not only in the seed; put it into another "
                "group, or list the folders without a group name"
            )
        arm = arms.setdefault(key, Arm(name))
        same = (run.config.seed, run.trained.h0)
        twin = next((r for r in arm.runs if (r.config.seed, r.trained.h0) == same), None)
        if twin is None:
            arm.runs.append(run)
            continue
        longer = len(run.lines) > len(twin.lines)
        kept, left = (run, twin) if longer else (twin, run)
        arm.runs[arm.runs.index(twin)] = kept
        warn(
            f"{left.folder.path}: is the same training run as {kept.folder.path} (same seed); skipped"
        )
    if not arms:
        raise UsageError(f"{' '.join(words)}: no run could be read")
    return list(_named_arms(list(arms.values())))


def read_run(path: Path, warn: Warn) -> ReportedRun:
    """Read one run.

    Raises:
        UsageError: if there is none, or it can't be read.
    """
    folder = open_run(path, Trust.NEVER)
    folder.require_run()
    config = folder.config()
    if not is_file(folder):
        folder.journal(config)  # checks all of it: its error says what to do
    interface = folder.interface(config)
    lines = [line for line in folder.metrics_lines(config, warn) if line.keys() >= NEEDED]
    try:
        parameters = _parameters(folder, config, interface)
    except UsageError as error:
        warn(f"{error}; its parameters are not shown")
        parameters = None
    try:
        calls = [] if is_file(folder) else provenance.read(folder.provenance_file)
    except UsageError as error:
        warn(f"{error}; ignored")
        calls = []
    size = None if parameters is None else int(parameters.h.size)
    evaluations = stored.read(folder, lambda text: None)  # ``trained_run`` tells of damaged ones
    return ReportedRun(
        folder,
        folder.place.name,
        config,
        lines,
        trained_run(folder, config, lines, warn),
        sorted(evaluations, key=lambda found: int(found["generation"])),
        folder.done(warn),
        calls,
        diagnose(Course.of_lines(lines, config, size)),
        parameters,
        interface,
    )


def _parameters(folder: RunFolder, config: Config, interface: Interface) -> Parameters | None:
    """H of the best checkpoint, or of the newest; None without one.

    Raises:
        UsageError: if it is damaged, or its arrays are known to code alone that is not imported here.
    """
    found = [path for path in (folder.best_file, *folder.checkpoint_files()) if path.is_file()]
    if not found and not is_file(folder):
        return None
    foreign = names_foreign_code(to_table(config), "policy")
    if foreign:
        raise UntrustedError(
            f"{folder.path}: only the code of {foreign[0].setting} = {foreign[0].text!r} has the names of its "
            "arrays, which this command never imports"
        )
    state, best = _state_in(folder, config, found)
    layout, initial = layout_and_h0(config, interface)
    if layout.size != state.h.size:
        raise UsageError(
            f"{folder.path}: h has {state.h.size} coordinates, but its settings need {layout.size}"
        )
    of_another = folder.initial_file.exists()
    return Parameters(best, state.generation, layout, state.h, None if of_another else initial)


def _state_in(
    folder: RunFolder, config: Config, checkpoints: Sequence[Path]
) -> tuple[RunState, bool]:
    """The state of the first checkpoint, or of a run in one file; and whether it is the best one."""
    if isinstance(folder, RunFile):
        return folder.last_state(config, lambda text: None), folder.checkpoint == "best"
    first = checkpoints[0]
    return folder.load_checkpoint(first, config).state, first == folder.best_file


def state_of(run: ReportedRun, h_sha256: str) -> Float32s | None:
    """The h of a run's checkpoint with this hash; None if no checkpoint has it."""
    if is_file(run.folder):
        state = run.folder.last_state(run.config, lambda text: None)
        return state.h if state.h_sha256() == h_sha256 else None
    for path in (run.folder.best_file, *run.folder.checkpoint_files()):
        try:
            state = checkpoint.load(path).state
        except UsageError:
            continue
        if state.h_sha256() == h_sha256:
            return state.h
    return None


def _paths(words: Sequence[str]) -> Iterator[tuple[str, Path, bool]]:
    """Group's name (or nothing), folder, and whether the user named this very run."""
    for word in words:
        path = Path(word)
        if "=" in word and not path.exists():
            name, paths = runs_of(word)
            yield from ((name, path, True) for path in paths)
            continue
        folder = open_run(path, Trust.NEVER)
        if folder.place.is_dir() and not folder.is_run and not folder.remains:
            inside = _runs_in(path)
            if inside:
                yield from (("", each, False) for each in inside)
                continue
        folder.require_run()
        yield "", path, True


def _runs_in(path: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    return [path / name for name in names if RunFolder(path / name, Trust.NEVER).is_run]


def _shortest_name(place: Path, places: Sequence[Path]) -> str:
    """The last parts of a path, as many as no other path ends with."""
    count = 1
    while count < len(place.parts) and (
        sum(other.parts[-count:] == place.parts[-count:] for other in places) > 1
    ):
        count += 1
    return str(Path(*place.parts[-count:]))


def _named_arms(arms: list[Arm]) -> Iterator[Arm]:
    """The groups with their runs in the order of their seeds; each group and each run has a name of its own."""
    places = [run.folder.place for arm in arms for run in arm.runs]
    taken: set[str] = set()
    for arm in arms:
        runs = [
            dataclasses.replace(run, name=_shortest_name(run.folder.place, places))
            for run in sorted(arm.runs, key=lambda run: run.config.seed)
        ]
        folders = [run.folder.place.name for run in runs]
        base = arm.name or (runs[0].name if len(runs) == 1 else _common_name(folders))
        name, number = base, 2
        while name in taken:
            name, number = f"{base} ({number})", number + 1
        taken.add(name)
        yield Arm(name, runs)


def _common_name(names: list[str]) -> str:
    """What the names of a group's folders have in common, without the seed: "plastic" of plastic-s1 and plastic-s2."""
    prefix = os.path.commonprefix(names)  # noqa: RUF071  # of names, not of paths
    if any(name[len(prefix) : len(prefix) + 1].isdigit() for name in names):
        prefix = re.sub(r"\d+$", "", prefix)  # the first digits of 10 and 11 are no name
    stem = re.sub(r"([-_.]+(s|seed))?[-_.]*$", "", prefix)
    return stem or names[0]
