"""Groups of training runs: found by the patterns that name them, read, and held to differ in nothing but the seed."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esd.config.identity import settings_of_h
from esd.config.settings import Config
from esd.config.tables import flatten, to_table
from esd.errors import UsageError
from esd.evaluation import stored as evaluations
from esd.evaluation.stored import Conditions
from esd.run.folder import RunFolder, Warn
from esd.run.run_file import open_run
from esd.run.trust import Trust

# what decides, beside the settings that h depends on, which h a run ends with and which is its best
ENDINGS = ("generations", "run.center_every", "run.center_episodes", "run.target_return")
STARTED_FROM = "--from"  # beside the settings, where h_0 came from another run
PATTERN_HINT = "if a pattern matches more than it should: -s[0-9]* matches seeds only"

Table = dict[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """One training run and its evaluations.

    Attributes:
        path: of its folder.
        seed: of it.
        population: members of a generation.
        settings: the flat settings that its h depends on, and when training ends, without the seed; and
            ``STARTED_FROM`` if h_0 came from another run.
        generations: updates made.
        env_steps: environment steps that training took, those of the center included.
        hours: wall time of training.
        best: generation of the best h; None without one.
        found: by conditions and variant, what the newest evaluation holds.
        generation: by conditions, of the evaluated h.
        h0: the hash of an h_0 that came from another run; otherwise empty.
    """

    path: Path
    seed: int
    population: int
    settings: Table
    generations: int
    env_steps: int
    hours: float
    best: int | None
    found: dict[Conditions, dict[str, Table]]
    generation: dict[Conditions, int]
    h0: str = ""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: of the arm.
        runs: of it, at least two.
    """

    name: str
    runs: list[TrainedRun]

    @property
    def objective(self) -> bool:
        """Whether its runs evolve the parameters of an objective."""
        return "objective.function" in self.runs[0].settings

    @property
    def env_steps(self) -> float:
        """Environment steps that training one of them took, on average."""
        return float(np.mean([run.env_steps for run in self.runs]))


def read_groups(words: Sequence[str], warn: Warn = lambda text: None) -> list[Group]:
    """The groups of a comparison, ``name=pattern,pattern…`` each; ``warn`` is called with what is ignored.

    Raises:
        UsageError: if one of them is not to be found, or could not be tested, or would be tested wrongly.
    """
    groups = [_group(word, warn) for word in words]
    check_groups(groups)
    return groups


def runs_of(word: str) -> tuple[str, list[Path]]:
    """The name and the run folders of a group, given as ``name=pattern,pattern…``.

    Raises:
        UsageError: if it is written otherwise, or a folder is not a run's.
    """
    name, equals, patterns = word.partition("=")
    if not (name and equals and patterns):
        raise UsageError(
            f"{word!r}: expected NAME=PATTERN or NAME=FOLDER,FOLDER, such as hebbian='runs/cartpole-s*'"
        )
    paths: list[Path] = []
    for pattern in _between_commas(patterns):
        found = sorted(Path(path) for path in glob.glob(pattern))  # noqa: PTH207  # it may be absolute
        for path in found:
            open_run(path).refuse_lost_journal()  # or the group would be smaller without a word
        runs = [path for path in found if open_run(path).is_run]
        if not runs:  # a folder's name may have brackets in it
            open_run(Path(pattern)).require_run()
            runs = [Path(pattern)]
        paths += runs
    return name, paths


def _between_commas(text: str) -> Iterator[str]:
    """The patterns of a group; a comma may also stand in the name of a run that exists."""
    pieces = text.split(",")
    while pieces:
        joined = (",".join(pieces[:count]) for count in range(len(pieces), 0, -1))
        pattern = next((own for own in joined if glob.glob(own) or os.path.lexists(own)), pieces[0])  # noqa: PTH207
        yield pattern
        del pieces[: pattern.count(",") + 1]


def _group(word: str, warn: Warn) -> Group:
    """Read the runs that a word names."""
    name, paths = runs_of(word)
    return Group(name, [_read(path, warn) for path in paths])


def _read(path: Path, warn: Warn) -> TrainedRun:
    folder = open_run(path, Trust.NEVER)
    config = folder.config()
    return trained_run(folder, config, folder.metrics_lines(config, warn), warn)


def trained_run(
    folder: RunFolder, config: Config, lines: Sequence[Table], warn: Warn
) -> TrainedRun:
    """A run of a comparison.

    Args:
        folder: of the run.
        config: of the run.
        lines: its metrics, one per generation.
        warn: is called with a line about what is ignored.

    Raises:
        UsageError: if its folder of evaluations is a symbolic link, or its journal is damaged.
    """
    flat = flatten(to_table(config))
    settings = settings_of_h(config) | {key: flat[key] for key in ENDINGS if key in flat}
    del settings["seed"]
    h0 = ""
    if os.path.lexists(folder.initial_file):
        # the journal's hash: it is known even if the file is damaged
        h0 = folder.journal(config, verify=False).header.h0_sha256
        settings[STARTED_FROM] = "another run"
    last = lines[-1] if lines else {}
    found, newest = newest_by_conditions(evaluations.read(folder, warn))
    return TrainedRun(
        folder.path,
        config.seed,
        config.population,
        settings,
        sum(line["return_mean"] is not None for line in lines),
        int(last.get("env_steps", 0)),
        float(last.get("seconds", 0.0)) / 3600.0,
        folder.generation_of_best(),
        found,
        newest,
        h0,
    )


def newest_by_conditions(
    stored: Iterable[Table],
) -> tuple[dict[Conditions, dict[str, Table]], dict[Conditions, int]]:
    """What a run's stored evaluations of its newest h hold, by conditions and variant, and the generation of that h."""
    found: dict[Conditions, dict[str, Table]] = {}
    newest: dict[Conditions, int] = {}
    for own in sorted(stored, key=lambda e: int(e["generation"])):
        conditions, generation = evaluations.conditions_of(own), int(own["generation"])
        if newest.get(conditions, generation) < generation:
            found[conditions] = {}  # of an h that the run has left behind
        newest[conditions] = generation
        found.setdefault(conditions, {}).update({v["name"]: v for v in own["variants"]})
    return found, newest


def check_groups(groups: list[Group]) -> None:
    """Refuse what could not be tested, or would be tested wrongly.

    Raises:
        UsageError: saying why.
    """
    if len(groups) < 2:
        raise UsageError("only one group; add another one to compare it with, as NAME=FOLDERS")
    for name, count in Counter(group.name for group in groups).items():
        if count > 1:
            raise UsageError(f"{count} groups are called {name!r}; give each a different name")
    owners: dict[Path, str] = {}
    for group in groups:
        for run in group.runs:
            place = run.path.resolve()
            if place in owners:
                where = f"twice in {group.name}" if owners[place] == group.name else "in two groups"
                raise UsageError(
                    f"{run.path}: is {where}; each run can be used only once ({PATTERN_HINT})"
                )
            owners[place] = group.name
        if len(group.runs) < 2:
            raise UsageError(
                f"{group.name}: one run ({group.runs[0].path}); at least two runs are needed"
            )
        check_alike(group)


def check_alike(group: Group) -> None:
    """A group is one way to train: nothing but the seed differs, and no seed is there twice.

    If its runs began with other runs' h, all did with the same one, or each with one of its own: a first stage that has
    been trained with several seeds, too.
    """
    first = group.runs[0]
    seeds: dict[int, TrainedRun] = {}
    for run in group.runs:
        for key in sorted({*first.settings, *run.settings}):
            if first.settings.get(key) != run.settings.get(key):
                one, other = (
                    f"{repr(own.settings[key]) if key in own.settings else 'not set'} in {own.path}"
                    for own in (first, run)
                )
                raise UsageError(
                    f"{group.name}: {key} is {one} but {other}; the runs of a group may differ only in their seed "
                    f"({PATTERN_HINT})"
                )
        twin = seeds.setdefault(run.seed, run)
        if twin is not run:
            raise UsageError(
                f"{group.name}: {twin.path} and {run.path} have the same seed, so they are the same training run"
            )
    origins = len({run.h0 for run in group.runs})
    if origins not in (1, len(group.runs)):
        raise UsageError(
            f"{group.name}: its {len(group.runs)} runs were started with --from, from {origins} different parameters; "
            "expected the same for all of them, or others for each"
        )
