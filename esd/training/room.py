"""Whether a run fits into memory and onto the disk, seen before anything is allocated or written.

Linux promises more memory than there is and kills a process that uses it, so what a run needs is computed from its
sizes and compared with what is free here, in the machine and in the control groups of a container or a job.
"""

from __future__ import annotations

import itertools
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esd.config.settings import LOW_RANK, Config
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import RETURNS
from esd.mpi.memory import available_memory, memory_limit
from esd.problems.base import Problem
from esd.problems.make import make_problem
from esd.run.folder import RunFolder
from esd.training.commit import CHECKPOINTS_KEPT
from esd.training.reports import Reporter

GIGA = 1e9
TABLES_OF_A_RANK = 3  # records, what is exchanged, and the message
TABLES_OF_RANK_0 = 3  # as written to the journal
# Bytes per coordinate of h, as measured (tests/training/test_room.py measures again). While a run starts, each rank
# has h_0, draws and bounds of it in float64 and a state of its own; afterwards a member's parameters.
STARTING_POLICY, STARTING_FUNCTION = 8, 38
OF_A_POLICY, OF_A_FUNCTION = 4, 14
OF_LOW_RANK = 8  # sums of factors, and the center
OF_A_BATCH = 8  # for each member that is evaluated at once on the CPU
STATES = 4  # that are there at once at most: two of the node, two as a checkpoint is written
NO_LIMIT = 1 << 60  # how cgroup 1 writes none
GROWTH = 20_000_000  # bytes that a rank takes beside, from the check on: compiled kernels, message buffers
BYTES_OF_A_WEIGHT = 8  # at least: in the network, and in h
NEW_CHECKPOINTS = CHECKPOINTS_KEPT + 2  # the best, and a new one before an old one goes
TOO_BIG = ("array is too big", "Maximum allowed dimension", "too large", "cannot fit")


@dataclass(frozen=True)
class Sizes:
    """What decides how much room a run takes.

    Attributes:
        coordinates: |h|.
        vectors: of the state that are as long as h, itself included.
        records: bytes of one generation's table.
        of_a_rank: bytes that each rank takes beside states and records.
        starting: bytes that each rank takes at first, beside a state of its own.
    """

    coordinates: int
    vectors: int
    records: int
    of_a_rank: int
    starting: int

    @property
    def state(self) -> int:
        """Bytes of one state."""
        return 4 * self.coordinates * self.vectors

    def memory(self, node_ranks: int) -> tuple[int, int]:
        """Bytes that the ranks of a node take for h, and for records; the environments' own are not counted."""
        training = STATES * self.state + self.of_a_rank * node_ranks
        starting = (2 * self.state + self.starting) * node_ranks
        return max(training, starting), self.records * (
            TABLES_OF_A_RANK * node_ranks + TABLES_OF_RANK_0
        )


def made(config: Config) -> Problem:
    """The problem that a config describes; one whose network can't be allocated at all is refused.

    Raises:
        UsageError: if it does not fit into memory, or for what ``make_problem`` refuses.
    """
    available = available_memory()
    if BYTES_OF_A_WEIGHT * _fewest_weights(config) > available:  # building it may touch its memory
        raise UsageError(
            f"{_what_makes_h(config)}: a network of at least {_fewest_weights(config):,} weights does not fit into "
            f"the {_gb(available)} of available memory; use smaller sizes"
        )
    try:
        return make_problem(config)
    except (MemoryError, OverflowError, ValueError) as error:
        if isinstance(error, ValueError) and not any(text in str(error) for text in TOO_BIG):
            raise
        raise UsageError(
            f"{_what_makes_h(config)}: could not be allocated ({error}); {_gb(available)} of memory are available. "
            "Use smaller sizes"
        ) from error


def sizes_of(config: Config, problem: Problem, algorithm: Algorithm) -> Sizes:
    """How large a run's state and its records are, without making them."""
    coordinates = problem.layout.size
    few = np.zeros(min(coordinates, 4096), np.float32)
    observed = 1 + 2 * problem.observation_size if problem.observation_size else 0
    width = RETURNS + len(problem.variants) + observed
    rows = config.population + problem.center_episodes * bool(config.run.center_every)
    function = bool(config.objective.named)
    each = OF_A_FUNCTION if function else OF_A_POLICY
    if config.es.noise == LOW_RANK:
        each += OF_LOW_RANK
    each += _of_a_batch(config)
    return Sizes(
        coordinates,
        len([*algorithm.start(few).named()]),
        8 * rows * width,
        each * coordinates,
        (STARTING_FUNCTION if function else STARTING_POLICY) * coordinates,
    )


def _of_a_batch(config: Config) -> int:
    """Bytes per coordinate of the members that a rank evaluates at once on the CPU."""
    return OF_A_BATCH * config.batch_members if config.device == "cpu" else 0


def check_memory(
    config: Config, problem: Problem, algorithm: Algorithm, ranks: int, node_ranks: int
) -> None:
    """Refuse a run that does not fit into this machine's memory, or what its control groups leave of it.

    Args:
        config: of the run.
        problem: what is evolved.
        algorithm: whose state it is.
        ranks: of the job.
        node_ranks: how many of them share this machine's memory.

    Raises:
        UsageError: naming what is needed, what there is, and what to lower.
    """
    sizes = sizes_of(config, problem, algorithm)
    states, records = sizes.memory(node_ranks)
    available, limit = available_memory(), memory_limit()
    if states + records + GROWTH * node_ranks <= available:
        return
    key, rows = max(
        ("population", config.population),
        ("run.center_episodes", problem.center_episodes * bool(config.run.center_every)),
        key=lambda each: each[1],
    )
    batch = _of_a_batch(config) * sizes.coordinates * node_ranks
    if records > states:
        what, lower = f"{key} = {rows:,}: a generation's records take {_gb(records)}", key
    elif 2 * batch > states:
        lower = "batch_members"
        what = f"{lower} = {config.batch_members:,}: members that are evaluated at once take {_gb(batch)}"
    else:
        lower = "these sizes"
        what = (
            f"{_what_makes_h(config)}: h has {sizes.coordinates:,} coordinates, and {STATES} states of "
            f"{sizes.vectors} such vector{'s' * (sizes.vectors > 1)} and the memory of the ranks take {_gb(states)}"
        )
    shared = f" with {node_ranks} ranks on a machine" if node_ranks > 1 else ""
    where = f" on {socket.gethostname()}" if ranks > node_ranks else ""
    limited = limit is not None and limit < NO_LIMIT
    allowed = f" (limit of a control group: {_gb(limit or 0)})" if limited else ""
    raise UsageError(
        f"{what} of memory{shared}, and {_gb(GROWTH)} more for each rank, but {_gb(available)} are "
        f"available{where}{allowed}; reduce {lower}{', start fewer ranks per machine,' if node_ranks > 1 else ''} "
        "or request more memory for the job"
    )


def check_disk(
    config: Config, problem: Problem, algorithm: Algorithm, folder: RunFolder, reporter: Reporter
) -> None:
    """Refuse a run that does not fit onto the disk.

    Args:
        config: of the run.
        problem: what is evolved.
        algorithm: whose state it is.
        folder: where it will be written.
        reporter: is told if the disk will be full before the run ends.

    Raises:
        UsageError: naming what is needed, what there is, and what to lower.
    """
    sizes = sizes_of(config, problem, algorithm)
    free = _free_disk(folder.place)
    if free is None:
        return
    checkpoints = sizes.state * NEW_CHECKPOINTS
    if sizes.records + checkpoints > free:
        raise UsageError(
            f"{folder.path}: checkpoints take {_gb(checkpoints)} and a generation of the journal "
            f"{_gb(sizes.records)}, but {_gb(free)} are free on this disk; use a folder on another disk with --run, "
            "or reduce population and the network's sizes"
        )
    journal = sizes.records * config.generations
    if journal + checkpoints > free:
        reporter.note(
            f"warning: after {config.generations:,} generations the journal takes {_gb(journal)}, but {_gb(free)} are "
            "free on this disk: the run will stop when it is full, and can be resumed after you free some space"
        )


def _fewest_weights(config: Config) -> int:
    """A lower bound for a network with ``policy.hidden``, whatever its inputs and outputs; 0 for others."""
    hidden = getattr(config.policy.settings, "hidden", None)
    if config.objective.named or not isinstance(hidden, tuple) or not hidden:
        return 0
    between = sum(one * other for one, other in itertools.pairwise(hidden))
    return int(hidden[0] + between + hidden[-1])


def _what_makes_h(config: Config) -> str:
    """The settings that the size of h depends on, for messages."""
    if config.objective.named:
        return "objective.parameters"
    hidden = getattr(config.policy.settings, "hidden", None)
    return "[policy]" if hidden is None else f"policy.hidden = {[*hidden]}"


def _free_disk(place: Path) -> int | None:
    """Bytes free where a folder is or will be; None of a file system that has no size, such as /proc."""
    while not place.exists() and place != place.parent:
        place = place.parent
    usage = shutil.disk_usage(place)
    return usage.free if usage.total else None


def _gb(count: float) -> str:
    """Bytes, for messages."""
    if count >= GIGA / 10:
        return f"{count / GIGA:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
