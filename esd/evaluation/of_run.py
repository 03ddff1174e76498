"""From a run's folder to a stored evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from esd.config.settings import Config
from esd.errors import UsageError
from esd.evaluation import stored, test_episodes, test_evaluations
from esd.evaluation.test_episodes import Subject
from esd.evolution.state import RunState
from esd.mpi.comm import Communicator, agreement
from esd.mpi.memory import available_memory
from esd.run import recovery
from esd.run.folder import RunFolder, Warn
from esd.run.run_file import RunFile
from esd.training.process_state import kept_process_state

CHECKPOINTS = ("best", "last")
BYTES_OF_AN_EPISODE = (
    100  # of its return in the exchange, as numbers, and as text in the stored evaluation
)


def load(folder: RunFolder, checkpoint: str, warn: Warn) -> tuple[Config, RunState, str]:
    """A run's settings and one of its states.

    Args:
        folder: of the run.
        checkpoint: "best" (by the center's episodes), or "last".
        warn: is called with a line about every damaged checkpoint; its state is rebuilt from the journal.

    Returns:
        The settings, the state, and which one it is: a run that looks for no best one has its last.

    Raises:
        UsageError: if there is no such run, or no best checkpoint yet.
    """
    folder.require_run()
    config = folder.config()
    if isinstance(folder, RunFile):
        if checkpoint == "last" and folder.checkpoint != "last":
            raise UsageError(
                f"{folder.path}: contains the best checkpoint, not the last one; export the run again with "
                "--checkpoint last"
            )
        return config, folder.last_state(config, warn), folder.checkpoint
    if checkpoint == "best" and (config.run.center_every or folder.best_file.exists()):
        return config, recovery.best_state(folder, config, warn), checkpoint
    return config, folder.last_state(config, warn), "last"


def _check_room(subject: Subject, episodes: int) -> None:
    """Refuse more test episodes than memory can hold the returns of."""
    named = subject.config.objective.named
    columns = len(subject.config.value_names) or 1 if named else len(subject.variants)
    needed, available = BYTES_OF_AN_EPISODE * episodes * columns, available_memory()
    if needed > available:
        raise UsageError(
            f"episodes = {episodes:,}: their returns need {needed / 1e9:,.1f} GB of memory, but "
            f"{available / 1e9:,.1f} GB are available; use fewer"
        )


def evaluate_and_store(
    comm: Communicator,
    folder: RunFolder,
    subject: Subject,
    state: RunState,
    checkpoint: str,
    episodes: int,
    seed: int,
    rules: str,
    report: Callable[[dict[str, Any], stored.Conditions], None],
) -> dict[str, Any]:
    """Play test episodes of a run and write what they gave to its folder.

    Args:
        comm: the ranks that share the episodes.
        folder: of the run.
        subject: what is evaluated.
        state: of the run.
        checkpoint: which one the state is.
        episodes: on each variant.
        seed: of the test stream.
        rules: "evolved" or "random".
        report: is called with the evaluation on rank 0, also if it can't be written: episodes are expensive.

    Returns:
        The evaluation as it is stored, on every rank.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    with agreement(comm, "looking for memory"):
        _check_room(subject, episodes)
    with kept_process_state():
        if subject.config.objective.named:
            results = test_evaluations.evaluate(comm, subject, state, episodes, seed)
        else:
            results = test_episodes.evaluate(comm, subject, state, episodes, seed, rules)
    settings = json.dumps(subject.settings, sort_keys=True)
    played = results[0].returns.size  # one where nothing is random
    conditions = stored.Conditions(checkpoint, seed, played, rules, settings)
    found = stored.describe(folder, subject, state, conditions, results)
    with agreement(comm, "writing the evaluation"):
        if comm.rank == 0:
            try:
                stored.store(folder, found)
            finally:
                report(found, conditions)
    return found
