"""Are ranks where they should be: cores and GPUs of their own, and a network that does not hold them up?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from esd.doctor.machine import Check, Verdict, note, ok
from esd.mpi import placement
from esd.mpi.comm import Communicator

NUMBERS = 500  # in a message, as a generation of some members has
REPEATS = 100
SLOW_SECONDS = (
    0.005  # for a message of some kB: on one machine it takes 10 µs, on a network less than 1 ms
)
DEVICES = Path("/dev")  # drivers of NVIDIA and AMD show their GPUs there
MOST_CORES_LISTED = 60  # characters


def pinning() -> Check:
    """Which cores this process may use: a shell or a batch system may have bound it."""
    name = "pinning"
    if not hasattr(os, "sched_getaffinity"):
        return ok(name, "not known on this system")
    own, all_of_them = sorted(os.sched_getaffinity(0)), os.cpu_count() or 1
    if len(own) >= all_of_them:
        return ok(name, "none: this process may use every core")
    return ok(name, f"this process and its children may use {len(own)} cores: {listed(own)}")


def listed(cores: Sequence[int]) -> str:
    """Numbers as ranges, such as 0-3,8."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    text = ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
    return text if len(text) <= MOST_CORES_LISTED else f"{text[:MOST_CORES_LISTED]}…"


def gpus() -> Check:
    """GPUs for ``device = "cuda"``."""
    name = "GPUs"
    try:
        import torch
    except Exception:  # the line on packages says why
        there = any(any(DEVICES.glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd"))
        text = "PyTorch, which looks for them, cannot be imported: networks run on the CPU"
        return note(name, f"there are some, but {text}") if there else ok(name, text)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        kind = "with CUDA" if torch.version.cuda else "without CUDA"
        return ok(name, f"none (PyTorch {torch.__version__} {kind}): networks run on the CPU")
    names = sorted({torch.cuda.get_device_name(number) for number in range(count)})
    return Check(
        name,
        Verdict.OK,
        f"{count} ({', '.join(names)}): start {count} rank{'s' * (count > 1)} here with device = cuda, one GPU per "
        "rank",
        {"gpus": count},
    )


def on_ranks(comm: Communicator) -> Iterator[Check]:
    """What all ranks find together; every rank has to call, and to take all of it."""
    with comm.node() as node:
        uses = _has_gpus()
        nodes = placement.nodes_of(comm, node, placement.own_place(uses, node.rank))
        remarks = placement.notes(comm, nodes)
    for text in remarks:
        yield note("ranks and cores", text)
    if not remarks:
        machines = f" on {len(nodes)} machines" if len(nodes) > 1 else ""
        yield ok("ranks and cores", f"each of {comm.size} ranks{machines} can have its own core")
    if any(found.gpus for found in nodes.values()):
        fewest = min(found.ranks / max(1, found.gpus) for found in nodes.values())
        most = max(found.ranks / max(1, found.gpus) for found in nodes.values())
        each = f"{fewest:g}" if fewest == most else f"{fewest:.3g} to {most:.3g}"
        yield ok("ranks for each GPU", each)
    yield latency(exchange_seconds(comm), comm.size)


def _has_gpus() -> bool:
    try:
        import torch

        return bool(torch.cuda.is_available())
    except Exception:  # the line on packages says why
        return False


def exchange_seconds(comm: Communicator) -> float:
    """How long an exchange of some kB among all ranks takes, the median of many [s]; every rank has to call."""
    message, seconds = np.zeros(NUMBERS, np.uint64), []
    comm.sum(message, "measuring the exchange")  # the first sets up what the others use
    for _ in range(REPEATS):
        began = time.perf_counter()
        comm.sum(message, "measuring the exchange")
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def latency(seconds: float, ranks: int) -> Check:
    """What is said of the time of an exchange."""
    name = "allreduce"
    text = f"{1e6 * seconds:,.0f} µs for {8 * NUMBERS / 1000:.0f} kB among {ranks} ranks, the median of {REPEATS}"
    slow = seconds > SLOW_SECONDS
    if slow:
        text += (
            ": slow. Either ranks share cores (start fewer), or they use a slow network (with Open MPI, choose "
            "another: --mca btl_tcp_if_include NETWORK)"
        )
    figures = {"allreduce_microseconds": 1e6 * seconds}
    return Check(name, Verdict.NOTE if slow else Verdict.OK, text, figures)
