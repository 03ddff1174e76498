"""Who waits for whom: recorded episode lengths, replayed under esd's schedule on up to 1,024 ranks and 16 nodes.

Three parts. “replay” simulates whole recorded runs of 1,024 members (benchmarks/data, made by benchmarks.lengths) with
esd's own dealing of rows: the share of the ideal, Σ steps / ranks, that a fixed split reaches, that esd reaches, and
that a schedule would reach that knows the lengths beforehand. “live” runs esd's own queue on 64 real processes whose
rows sleep as long as the recorded ones, to see that the replay tells the truth; nodes are groups of processes.
“tickets” measures what drawing a row costs while others draw.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import replay
from benchmarks.lengths import World, load
from benchmarks.measuring import child_environment, mpirun, parser, write
from esd.mpi.comm import Ranks
from esd.mpi.schedule import WORD_BYTES, Schedule, SharedQueue

RANKS, NODES = (64, 128, 256, 512, 1024), (1, 2, 4, 8, 16)
POPULATIONS = (256, 512, 1024)
LIVE_RANKS, LIVE_NODES, LIVE_SECONDS = 64, (1, 16), 4.0
# about what a step takes (esd bench rollout), for the weight of a ticket
STEP_SECONDS = {"CartPole-v1": 8e-6, "Hopper-v5": 3e-5, "HalfCheetah-v5": 5e-5, "Ant-v5": 2.5e-4}
TICKET_TAKERS = (1, 2, 64)


def of_ideal(world: World, size: int, time_of: Callable[[replay.Lengths, int], float]) -> float:
    """Σ ideal / Σ time over a run's generations: the share of the ranks' time that is work."""
    generations = world.steps.astype(np.float64)
    times = sum(time_of(lengths, generation) for generation, lengths in enumerate(generations))
    return sum(replay.ideal(lengths, size) for lengths in generations) / times


def replayed(world: World, size: int, nodes: int, ticket_seconds: float) -> dict[str, Any]:
    """All schedules on one machine, as shares of the ideal."""
    generations = world.steps.astype(np.float64)
    ticket = ticket_seconds / STEP_SECONDS[world.name]

    def known(lengths: replay.Lengths, _: int) -> float:
        return replay.scheduled(lengths, size, nodes, replay.longest_first(lengths))

    def by_the_last_generation(lengths: replay.Lengths, generation: int) -> float:
        order = replay.longest_first(generations[max(0, generation - 1)]) if generation else None
        return replay.scheduled(lengths, size, nodes, order)

    def center_first(lengths: replay.Lengths, _: int) -> float:
        return replay.scheduled(lengths, size, nodes, replay.last_first(world.members))

    schedules: dict[str, Callable[[replay.Lengths, int], float]] = {
        "fixed": lambda lengths, _: replay.fixed(lengths, size),
        "esd": lambda lengths, _: replay.scheduled(lengths, size, nodes),
        "esd_with_tickets": lambda lengths, _: replay.scheduled(
            lengths, size, nodes, ticket=ticket
        ),
        "one_queue": lambda lengths, _: replay.drawn(lengths, size),
        "center_first": center_first,
        "by_last_generation": by_the_last_generation,
        "lengths_known": known,
        "bound": lambda lengths, _: replay.bound(lengths, size),
    }
    shares = {name: round(of_ideal(world, size, time), 4) for name, time in schedules.items()}
    return {
        "world": world.name, "population": world.members, "ranks": size, "nodes": nodes, **shares
    }  # fmt: skip


def smaller(world: World, population: int) -> World:
    """The same run with its first members only; the center's episodes stay."""
    rows = [*range(population), *range(world.members, world.steps.shape[1])]
    return World(world.name, world.command, population, world.steps[:, rows])


def first_generations(world: World) -> dict[str, Any]:
    """A run's hardest generation, by esd on 64 ranks of one node, and its last."""
    shares = [
        replay.ideal(lengths, 64) / replay.scheduled(lengths, 64, 1)
        for lengths in world.steps.astype(np.float64)
    ]
    members = world.steps[:, : world.members]
    return {
        "world": world.name,
        "command": world.command,
        "generations": len(shares),
        "mean_steps": [round(float(members[g].mean())) for g in (0, -1)],
        "longest": int(members.max()),
        "esd_first": round(shares[0], 4),
        "esd_worst": round(min(shares), 4),
        "esd_last": round(shares[-1], 4),
    }


# ---- tickets


def _take(path: str, count: int, start: Any, told: Any) -> None:
    queue = SharedQueue(os.open(path, os.O_RDWR))
    start.wait()
    began = time.perf_counter()
    for _ in range(count):
        queue.take(0)
    told.put((began, time.perf_counter()))
    queue.close()


def tickets(takers: int, count: int) -> dict[str, Any]:
    """Draw from one queue in several processes at once, doing nothing else."""
    fork = multiprocessing.get_context("fork")
    start, told = fork.Barrier(takers), fork.Queue()
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(WORD_BYTES))
        file.flush()
        arguments = (file.name, count, start, told)
        processes = [fork.Process(target=_take, args=arguments) for _ in range(takers)]
        for process in processes:
            process.start()
        spans = [told.get() for _ in processes]
        for process in processes:
            process.join()
    whole = max(end for _, end in spans) - min(began for began, _ in spans)
    return {"processes": takers, "microseconds_per_ticket": whole / (takers * count) * 1e6}


# ---- live


def sleep_through(rounds: int) -> None:
    """Be one of the live part's ranks; rank 0 prints what it took."""
    from mpi4py import MPI

    comm = Ranks(MPI.COMM_WORLD)
    told = []
    for world in load():
        # a run's hardest generation is its first: nobody has learned to go on for long yet
        lengths = world.steps[0].astype(np.float64)
        scale = LIVE_SECONDS / replay.ideal(lengths, comm.size)
        for nodes in LIVE_NODES:
            group = MPI.COMM_WORLD.Split(comm.rank * nodes // comm.size)
            schedule = Schedule(comm, Ranks(group))
            taken = []
            for generation in range(rounds):
                comm.sum(np.zeros(1, np.uint64), "getting in step")
                began = time.perf_counter()
                for row in schedule.rows(generation, len(lengths)):
                    time.sleep(lengths[row] * scale)
                comm.sum(np.zeros(1, np.uint64), "finishing")
                taken.append(time.perf_counter() - began)
            schedule.close()
            group.Free()
            simulated = replay.scheduled(lengths, comm.size, nodes) * scale
            told.append(
                {
                    "world": world.name,
                    "ranks": comm.size,
                    "nodes": nodes,
                    "seconds": float(np.median(taken)),
                    "replayed_seconds": simulated,
                    "ideal_seconds": LIVE_SECONDS,
                }
            )
    if comm.rank == 0:
        print(json.dumps(told), flush=True)


def live(rounds: int) -> list[dict[str, Any]]:
    """Start the live part's ranks and return what rank 0 tells."""
    words = [sys.executable, "-m", "benchmarks.schedule", "--sleep", str(rounds)]
    done = subprocess.run(
        [*mpirun(LIVE_RANKS), *words],
        check=True,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("["))
    told: list[dict[str, Any]] = json.loads(line)
    return told


def main() -> None:
    """Measure and write."""
    command_line = parser("schedule", __doc__)
    command_line.add_argument("--rounds", type=int, default=1, help="of the live part [1]")
    command_line.add_argument("--no-live", action="store_true", help="leave the live part out")
    command_line.add_argument("--sleep", type=int, help=argparse.SUPPRESS)
    arguments = command_line.parse_args()
    if arguments.sleep:
        sleep_through(arguments.sleep)
        return
    ranks, nodes, populations, count = list(RANKS), list(NODES), list(POPULATIONS), 20_000
    if arguments.quick:
        ranks, nodes, populations, count = [64], [1, 4], [1024], 1000
    drawn = [tickets(takers, count // takers) for takers in TICKET_TAKERS]
    ticket = max(d["microseconds_per_ticket"] for d in drawn) * 1e-6
    worlds = load()
    content = {
        "worlds": [first_generations(world) for world in worlds],
        "replay": [
            replayed(world, size, n, ticket) for world in worlds for size in ranks for n in nodes
        ],
        "populations": [
            replayed(smaller(world, population), 64, 1, ticket)
            for world in worlds
            for population in populations
        ],
        "tickets": drawn,
        "live": [] if arguments.quick or arguments.no_live else live(arguments.rounds),
    }
    write(arguments, "schedule", content)


if __name__ == "__main__":
    main()
