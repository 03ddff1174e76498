"""``esd bench``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from esd.commands import completion
from esd.commands.running import on_ranks

if TYPE_CHECKING:
    from esd.doctor.bench import Measurement
    from esd.mpi.comm import Communicator


class Part(enum.StrEnum):
    """What can be measured."""

    ALL = "all"
    KERNEL = "kernel"
    NOISE = "noise"
    ROLLOUT = "rollout"
    RANKS = "ranks"


def bench(
    part: Annotated[
        str,
        typer.Argument(
            help=f"What to measure: {', '.join(Part)}.",
            metavar="PART",
            autocompletion=lambda incomplete: [p for p in Part if p.startswith(incomplete)],
        ),
    ] = Part.ALL,
    experiment: Annotated[
        str,
        typer.Option(
            help="Experiment whose environment and policy are used for rollout and ranks.",
            autocompletion=completion.experiments,
        ),
    ] = "cartpole",
    seconds: Annotated[
        float, typer.Option(help="Duration of one measurement of rollout and ranks.", min=0.01)
    ] = 1.0,
    rounds: Annotated[
        int,
        typer.Option(
            help="Number of rounds. Each round measures every figure and its reference once.", min=1
        ),
    ] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure this machine. Each figure is compared with a limit or another library, as a ratio with quartiles.

    Start it under mpirun to measure how speed scales with ranks. Kernel, noise and rollout are then measured on rank
    0 only.
    """
    from esd.commands.console import print_json
    from esd.config.experiment_files import read_experiment
    from esd.config.tables import parse
    from esd.doctor import bench as benches
    from esd.errors import UsageError, shown
    from esd.mpi.comm import agreement

    def body(comm: Communicator) -> int:
        with agreement(comm, "reading the experiment"):
            if part not in list(Part):
                raise UsageError(f"{shown(part)}: expected one of {', '.join(Part)}")
            config = parse(read_experiment(experiment)[1], experiment)
            if config.objective.named:
                raise UsageError(
                    f"--experiment {experiment}: optimizes an objective, so it has no environment or policy to "
                    "measure; use another experiment"
                )
        found: list[Measurement] = []
        parts: dict[Part, Callable[[], Iterator[Measurement]]] = {
            Part.KERNEL: lambda: benches.kernel(rounds),
            Part.NOISE: lambda: benches.noise(rounds),
            Part.ROLLOUT: lambda: benches.rollout(config, seconds, rounds),
        }
        with agreement(comm, "measuring on rank 0"):
            for name, measure in parts.items():
                if comm.rank == 0 and part in (Part.ALL, name):
                    found += _told(measure(), as_json)
        if part in (Part.ALL, Part.RANKS):
            measured = benches.ranks(comm, config, seconds, rounds)
            found += list(measured) if comm.rank else _told(measured, as_json)
        if comm.rank == 0 and as_json:
            print_json({"ranks": comm.size, "measurements": [m.as_json() for m in found]})
        return 0

    on_ranks(body, as_json)


def _told(measured: Iterator[Measurement], quietly: bool) -> list[Measurement]:
    """All measurements, each printed as a row of a table as it comes."""
    found = []
    for m in measured:
        found.append(m)
        if quietly:
            continue
        low, high = m.quartiles
        figure = f"{m.value:,.1f} {m.unit}"
        if m.reference is None or m.ratio is None:
            print(f"{m.name:<62} {figure:>18} ({low:,.1f} to {high:,.1f})", flush=True)
        else:
            compared = f"{m.ratio:5.2f} × ({low:.2f} to {high:.2f})"
            reference = f"{m.reference_name}, {m.reference:,.1f} {m.unit}"
            print(f"{m.name:<62} {figure:>18} = {compared} {reference}", flush=True)
    return found
