"""Where ranks run: which cores and GPUs those of a machine share, and what there is to say of it.

A launcher may bind several ranks to one core while others are idle, and a container may allow less time than it shows
cores. Nothing of it changes a result, only how long it takes, so it is said in a line and refused nowhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esd.mpi import control_groups
from esd.mpi.comm import Communicator
from esd.mpi.texts import node_names

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MASK_WORDS = 16  # of 64 cores each
_MOST_CORES = 64 * _MASK_WORDS
_MOST_LISTED = 3  # nodes, in a line


@dataclass(frozen=True)
class Place:
    """Where one rank runs.

    Attributes:
        cores: that it may use.
        gpu: a number that tells its GPU from others; 0 without.
        gpus: how many it sees.
    """

    cores: frozenset[int]
    gpu: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Node:
    """The ranks of one machine, in numbers that travel.

    Attributes:
        ranks: how many.
        cores: that processes of this job may use, whatever each rank is bound to.
        quota: the processor time that a control group allows [thousandths of a core]; 0 for no limit.
        bound: how many ranks could have a core of their own, as they are bound.
        bound_cores: that any of them may use.
        threads: that libraries are asked to start in each rank.
        gpus: how many different ones the ranks use.
        seen_gpus: how many a rank sees.
    """

    ranks: int
    cores: int
    quota: int
    bound: int
    bound_cores: int
    threads: int
    gpus: int
    seen_gpus: int


_FIELDS = len(Node.__dataclass_fields__)


def own_place(uses_gpu: bool = False, node_rank: int = 0) -> Place:
    """Of this process.

    Args:
        uses_gpu: its networks run on one (``device = "cuda"``).
        node_rank: its number among the ranks of the machine.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(_online())
    gpu, gpus = _own_gpu(node_rank) if uses_gpu else (0, 0)
    return Place(frozenset(core for core in cores if core < _MOST_CORES), gpu, gpus)


def _own_gpu(node_rank: int) -> tuple[int, int]:
    """What tells this rank's GPU from others (a launcher may show each rank another one as the first), and how many."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return 0, 0
    number = node_rank % count  # as ``esd.lockstep.device`` deals them out
    known = getattr(torch.cuda.get_device_properties(number), "uuid", None)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = f"{known}" if known is not None else f"{shown} {number}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) + 1, count


def nodes_of(ranks: Communicator, node: Communicator, place: Place) -> dict[int, Node]:
    """The machines of a job, by the number of their first rank; every rank has to call.

    Args:
        ranks: all of them.
        node: those of this machine.
        place: of this rank.
    """
    table = np.zeros((node.size, _MASK_WORDS + 2), np.uint64)
    mask = sum(1 << core for core in place.cores)
    words = np.frombuffer(mask.to_bytes(8 * _MASK_WORDS, "little"), np.uint64)
    table[node.rank] = np.array([*words, place.gpu, place.gpus], np.uint64)
    flat = table.reshape(-1)
    node.sum(flat, "comparing where ranks run")
    places = [_place(row) for row in flat.reshape(table.shape)]
    numbers = np.zeros((ranks.size, _FIELDS), np.uint64)
    if node.rank == 0:
        numbers[ranks.rank] = [*vars(summary(places)).values()]
    flat = numbers.reshape(-1)
    ranks.sum(flat, "comparing where ranks run")
    return {
        rank: Node(*(int(number) for number in row))
        for rank, row in enumerate(flat.reshape(numbers.shape))
        if row[0]
    }


def _place(row: np.ndarray) -> Place:
    mask = int.from_bytes(row[:_MASK_WORDS].tobytes(), "little")
    cores = frozenset(core for core in range(mask.bit_length()) if mask >> core & 1)
    return Place(cores, int(row[_MASK_WORDS]), int(row[_MASK_WORDS + 1]))


def summary(
    places: Sequence[Place],
    root: Path = control_groups.ROOT,
    environment: Mapping[str, str] = os.environ,
) -> Node:
    """What is worth knowing of the ranks of this machine.

    Args:
        places: of each of them.
        root: of the file system, for tests.
        environment: of this process.
    """
    quota = control_groups.cores(root)
    set_to = [environment.get(name, "") for name in THREAD_VARIABLES]
    return Node(
        ranks=len(places),
        cores=_cores_of_the_job(root, environment),
        quota=0 if quota is None else max(1, int(1000 * quota)),
        bound=_with_a_core_each([place.cores for place in places]),
        bound_cores=len(frozenset().union(*(place.cores for place in places))),
        threads=max((int(text) for text in set_to if text.isdigit() and len(text) < 7), default=0),
        gpus=len({place.gpu for place in places} - {0}),
        seen_gpus=max(place.gpus for place in places),
    )


def _cores_of_the_job(root: Path, environment: Mapping[str, str]) -> int:
    """How many cores of this machine the job has: a bound rank can't see it by what it may use itself."""
    found = control_groups.core_set(root)
    count = _online() if found is None else len(found)
    given = environment.get("SLURM_CPUS_ON_NODE", "")  # where SLURM binds without control groups
    return min(count, int(given)) if given.isdigit() and int(given) else count


def _online() -> int:
    return os.cpu_count() or 1


def _with_a_core_each(bound: Sequence[frozenset[int]]) -> int:
    """How many ranks can have a core that no other of them has: a largest matching of ranks and cores."""
    rank_of: dict[int, int] = {}

    def placed(rank: int, tried: set[int]) -> bool:
        free = next((core for core in bound[rank] if core not in rank_of), None)
        if free is not None:
            rank_of[free] = rank
            return True
        for core in bound[rank]:
            if core not in tried:
                tried.add(core)
                if placed(rank_of[core], tried):
                    rank_of[core] = rank
                    return True
        return False

    return sum(placed(rank, set()) for rank in range(len(bound)))


def notes(ranks: Communicator, nodes: Mapping[int, Node]) -> list[str]:
    """A line for each thing that makes a run slower than it has to be; every rank has to call, and gets the same.

    Args:
        ranks: all of them.
        nodes: what ``nodes_of`` found.
    """
    by_text: dict[str, list[int]] = {}
    for rank, node in nodes.items():
        for text in remarks(node):
            by_text.setdefault(text, []).append(rank)
    if not by_text or len(nodes) == 1:
        return [*by_text]
    names = node_names(ranks)
    lines = []
    for text, found in by_text.items():
        listed = ", ".join(names[rank] for rank in found[:_MOST_LISTED])
        more = f" and {len(found) - _MOST_LISTED} more nodes" if len(found) > _MOST_LISTED else ""
        lines.append(f"on {listed}{more}: {text}")
    return lines


def idle_ranks(ranks: int, members: int) -> list[str]:
    """A line if there are more ranks than members."""
    if ranks <= members:
        return []
    return [
        f"{ranks} ranks for {members} members: {ranks - members} of them are idle; start {members} at most, or "
        "raise population"
    ]


def remarks(node: Node) -> list[str]:
    """What there is to say of one machine's ranks."""
    found = []
    quota = node.quota / 1000
    usable = min(node.cores, quota) if quota else node.cores
    if 1 < node.ranks > usable:
        cores = f"{node.cores} core" + "s" * (node.cores > 1)
        if quota and quota < node.cores:
            cores = f"the CPU time of {quota:.3g} cores (limit of a control group)"
        found.append(
            f"{node.ranks} ranks share {cores}; {max(1, int(usable))} on this machine would be "
            "as fast, with the same result"
        )
    if node.ranks > 1 and node.bound < min(node.ranks, node.cores):
        found.append(
            f"{node.ranks} ranks are bound so that only {node.bound} can have their own core, although there are "
            f"{node.cores}: start mpirun with --map-by core --bind-to core, or with --bind-to none (srun: "
            "--cpu-bind=cores or none)"
        )
    if node.threads > 1 and node.ranks > 1 and node.threads * node.ranks > node.cores:
        found.append(
            f"libraries may start {node.threads} threads in each of {node.ranks} ranks, on {node.cores} cores: unset "
            f"{', '.join(THREAD_VARIABLES)}; esd then uses one thread per rank"
        )
    if node.gpus and node.ranks > node.gpus:
        found.append(
            f"{node.ranks} ranks share {node.gpus} GPU{'s' * (node.gpus > 1)}; fewer ranks may be as fast"
        )
    elif node.gpus and node.seen_gpus > node.gpus:
        found.append(
            f"{node.ranks} rank{'s' * (node.ranks > 1)} on {node.seen_gpus} GPUs: {node.seen_gpus - node.gpus} of "
            f"them are idle; start {node.seen_gpus} ranks on this machine"
        )
    return found
