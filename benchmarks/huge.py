"""A generation of 10⁸ parameters: seconds and memory of a member and of the update, with Gaussian and low-rank noise.

    mpirun -n 2 python -m benchmarks.huge

h are the weights of a static network of 10,000 inputs and 10,000 outputs; no environment, no policy. All ranks
make a member each at the same time, then one update of OpenAI-ES (SGD) together, as in a training.
"""

from __future__ import annotations

import resource

import numpy as np

from benchmarks.measuring import parser, seconds, write
from esd.api.ranks import ranks
from esd.evolution.layout import Layout
from esd.evolution.low_rank import make_noise
from esd.evolution.noise import Purpose, normals
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.records import Records, Status
from esd.evolution.schedules import Decay
from esd.evolution.state import start
from esd.mpi.comm import Communicator, gather
from esd.mpi.memory import available_memory
from esd.mpi.team import Team
from esd.training.node_state import NodeState

KINDS = (("gaussian", 1), ("low_rank", 1), ("low_rank", 4))


def measured(
    comm: Communicator, team: Team, kind: str, rank: int, side: int, pairs: int
) -> dict[str, float | str]:
    """One kind of noise; times of the slowest rank."""
    layout = Layout({"layer0.w": (side, side)})
    noise = make_noise(kind, 0, rank, layout)
    strategy = Strategy(noise, 2 * pairs, Decay(0.1), Decay(0.05), make_optimizer("sgd"))
    memory = NodeState(
        team, strategy, start(strategy, normals(0, Purpose.INITIAL_H, layout.size), 0)
    )
    records = Records(2 * pairs, 0, 0)
    for row in range(records.members):
        records.write(row, returns=[row**1.5], steps=1, episodes=1, status=Status.DONE)
    member = np.empty(layout.size, np.float32)
    taken: dict[str, list[float]] = {"member": [], "update": []}
    for _ in range(3):  # the first one isn't counted
        state = memory.state.evolution
        comm.sum(np.zeros(1, np.uint64), "getting in step")
        taken["member"].append(seconds(lambda s=state: strategy.ask(s, comm.rank, member)))  # type: ignore[misc]
        comm.sum(np.zeros(1, np.uint64), "getting in step")
        taken["update"].append(seconds(lambda: memory.advance(records)))
    slowest = {
        f"{what}_seconds": float(gather(comm, round(1e6 * min(times[1:])), "times").max()) / 1e6
        for what, times in taken.items()
    }
    return {"noise": kind, "rank": rank if kind == "low_rank" else 0, **slowest}


def main() -> None:
    """Measure and write."""
    command_line = parser("huge", __doc__)
    command_line.add_argument("--side", type=int, default=10_000, help="[%(default)s]")
    command_line.add_argument("--pairs", type=int, default=48, help="[%(default)s]")
    arguments = command_line.parse_args()
    side, pairs = (200, 4) if arguments.quick else (arguments.side, arguments.pairs)
    comm = ranks()
    before = available_memory()
    found = []
    for kind, rank in KINDS:
        with Team(comm) as team:
            found.append(measured(comm, team, kind, rank, side, pairs))
    peak = gather(comm, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "memory")  # kB
    if comm.rank == 0:
        content = {
            "ranks": comm.size,
            "coordinates": side * side,
            "pairs": pairs,
            "state_gb": 2 * 4e-9 * side * side,
            "available_gb": before / 1e9,
            "peak_gb_of_each_rank_with_what_they_share": [round(kb / 1e6, 2) for kb in peak],
            "noises": found,
        }
        write(arguments, "huge", content)


if __name__ == "__main__":
    main()
