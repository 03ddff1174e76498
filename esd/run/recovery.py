"""The newest state of a run that can be trusted, also where its journal is damaged or lost.

A run with a whole journal gives its last state. Of any other a new run may start (``esd train --from``): from its
newest good checkpoint, or from what stands in the journal before the damage, whichever is of the later generation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from esd.config.settings import Config
from esd.errors import UsageError
from esd.evolution.state import RunState
from esd.run import metrics
from esd.run.folder import RunFolder, Warn, replay
from esd.run.run_file import is_file


@dataclass(frozen=True)
class Source:
    """A state of a run: which one, and what it is rebuilt from.

    Attributes:
        generation: t of the state.
        checkpoint: the file to begin with; None for h_0.
    """

    generation: int
    checkpoint: Path | None


def newest_state(folder: RunFolder, warn: Warn) -> Source:
    """The newest state of a run that can be trusted.

    Args:
        folder: of the run.
        warn: told if it is not the state after the last generation of a whole journal, and which one it is.

    Raises:
        UsageError: if there is none.
    """
    if not folder.remains:
        folder.require_run()
    config = folder.config()
    if is_file(folder):
        return Source(folder.generation(config), None)
    contents, problem = None, "its journal.bin is missing"
    if folder.is_run:
        contents, damage = folder.good_part(config)
        problem = "" if damage is None else str(damage)
    reached = -1 if contents is None else contents.next_generation
    found = folder.newest_good_checkpoint(config, warn)
    if found is None and contents is None:
        raise UsageError(
            f"{folder.path}: {problem}, and there is no undamaged checkpoint. Restore the folder from a copy"
        )
    path, generation = found or (None, -1)
    if not problem and generation > reached:
        problem = f"its journal.bin ends before generation {reached}"
    if problem:
        newest = max(generation, reached)
        origin = f"of {path.name}" if path and generation >= reached else "rebuilt from the journal"
        warn(f"{folder.path}: {problem}; the newest undamaged state is h_{newest}, {origin}")
    return Source(max(generation, reached), path)


def load(folder: RunFolder, config: Config, source: Source) -> RunState:
    """Rebuild a state.

    Raises:
        UsageError: if what it is rebuilt from is not as it was found.
    """
    if is_file(folder):
        return folder.last_state(config, lambda text: None)
    state = None
    if source.checkpoint is not None:
        state = folder.load_checkpoint(source.checkpoint, config).state
        if state.generation == source.generation:
            return state
    contents, damage = folder.good_part(config, verify=False)
    if contents is None:
        raise UsageError(str(damage))
    if state is None:
        state = folder.initial_state(config, contents.header)
    state = replay(config, state, contents, source.generation)
    if state.generation != source.generation:
        raise UsageError(
            f"{folder.path}: no longer has generation {source.generation}: it was changed in the meantime; run the "
            "command again"
        )
    return state


def best_state(folder: RunFolder, config: Config, warn: Warn) -> RunState:
    """The best state by the center's episodes; without its checkpoint it is rebuilt from the journal.

    Args:
        folder: of the run.
        config: of the run.
        warn: told if it was rebuilt, and why.

    Raises:
        UsageError: if the center was not evaluated yet, or the journal is damaged, too.
    """
    problem = f"{folder.best_file}: missing"
    if os.path.lexists(folder.best_file):
        try:
            return folder.load_checkpoint(folder.best_file, config).state
        except UsageError as error:
            problem = str(error)
    contents = folder.journal(config)
    best = metrics.BestCenter.of(config, contents)
    if best.generation < 0:
        why = "was never finite" if best.episodes else "was not evaluated yet"
        raise UsageError(
            f"{folder.path}: has no best checkpoint, because the center's return {why}; use --checkpoint last"
        )
    warn(f"{problem}; h_{best.generation}, the best one, is rebuilt from the journal")
    return folder.state_at(best.generation, config, contents)
