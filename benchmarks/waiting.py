"""What it costs to wait for a rank that is late: beside MPI's blocking collective, in time and in a core's share.

    mpirun -n 4 python -m benchmarks.waiting --late 0.1 --rounds 20

The last rank is late. Milliseconds are from when it comes until the last rank is out of the collective, medians; the
core's share is that of rank 0 while it waits. MPI's own collective spins; the two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from esd import watch
from esd.mpi.comm import connect
from esd.mpi.team import Team


def main() -> None:
    """Measure and print, on rank 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--late", type=float, default=0.1, help="seconds that the last rank is late"
    )
    parser.add_argument("--rounds", type=int, default=20, help="collectives of each kind")
    options = parser.parse_args()
    watch.start()
    comm = connect()
    from mpi4py import MPI

    raw = MPI.COMM_WORLD.Dup()
    numbers = np.zeros(500, np.uint64)
    milliseconds: dict[str, list[float]] = {"MPI, blocking": [], "esd": []}
    share: dict[str, list[float]] = {"MPI, blocking": [], "esd": []}
    with Team(comm):
        for turn in range(-1, options.rounds):  # the first one loads code
            for kind in milliseconds:
                raw.Barrier()
                if comm.rank == comm.size - 1:
                    time.sleep(options.late if turn >= 0 else 1.0)
                began, used = time.monotonic_ns(), time.thread_time()
                if kind == "esd":
                    comm.sum(numbers, "a measurement")
                else:
                    raw.Allreduce(MPI.IN_PLACE, numbers, op=MPI.SUM)
                used = time.thread_time() - used
                times = np.array(
                    [began if comm.rank == comm.size - 1 else 0, time.monotonic_ns()], np.int64
                )
                raw.Allreduce(MPI.IN_PLACE, times, op=MPI.MAX)
                if turn >= 0:
                    milliseconds[kind].append((times[1] - times[0]) / 1e6)
                    share[kind].append(used / options.late)
    if comm.rank == 0:
        for kind, found in milliseconds.items():
            print(
                f"{comm.size} ranks, the last {options.late:g} s late, {options.rounds} times, {kind}: "
                f"{statistics.median(found):.2f} ms, {100 * statistics.mean(share[kind]):.1f} % of a core"
            )
    comm.close(0)


if __name__ == "__main__":
    main()
