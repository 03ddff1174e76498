"""Tables of how evaluations are handed to ranks."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables.markdown import Result, number, source, table

RANKS_PER_NODE = 64


def share(value: float) -> str:
    """A share of the ideal."""
    return f"{value:.3f}"


def worlds(result: Result) -> str:
    """What was recorded."""
    heads = [
        "environment",
        "generations",
        "mean steps per episode, first → last generation",
        "longest episode (steps)",
        "recorded with",
    ]
    rows = [
        [
            world["world"],
            str(world["generations"]),
            " → ".join(f"{steps:,}" for steps in world["mean_steps"]),
            f"{world['longest']:,}",
            f"`{world['command']}`" if world["generations"] > 1 else world["command"],
        ]
        for world in result["worlds"]
    ]
    return table(heads, rows)


def _replays(result: Result, part: str, keep: Callable[[Result], bool]) -> str:
    heads = [
        "environment", "population", "ranks", "nodes", "static split", "**esd**", "esd, with tickets",
        "one queue for all nodes", "lengths known in advance", "upper bound",
    ]  # fmt: skip
    columns = ("fixed", "esd", "esd_with_tickets", "one_queue", "lengths_known", "bound")
    rows = [
        [
            replayed["world"],
            f"{replayed['population']:,}",
            f"{replayed['ranks']:,}",
            str(replayed["nodes"]),
            *(share(replayed[column]) for column in columns),
        ]
        for replayed in result[part]
        if keep(replayed)
    ]
    return table(heads, rows)


def nodes_of_64(result: Result) -> str:
    """Full nodes only."""
    body = _replays(result, "replay", lambda r: r["ranks"] == r["nodes"] * RANKS_PER_NODE)
    return f"{body}\n\n{source(result)}"


def spread(result: Result) -> str:
    """64 ranks on ever more nodes."""
    return f"{_replays(result, 'replay', lambda r: r['ranks'] == 64)}\n\n{source(result)}"


def populations(result: Result) -> str:
    """64 ranks, fewer members."""
    return f"{_replays(result, 'populations', lambda r: True)}\n\n{source(result)}"


def orders(result: Result) -> str:
    """Other orders of drawing, 64 ranks on one node."""
    heads = ["environment", "**esd**", "center first", "longest of the last generation first"]
    rows = [
        [r["world"], *(share(r[c]) for c in ("esd", "center_first", "by_last_generation"))]
        for r in result["replay"]
        if (r["ranks"], r["nodes"]) == (64, 1)
    ]
    return f"{table(heads, rows)}\n\n{source(result)}"


def live(result: Result) -> str:
    """Real processes beside the replay."""
    heads = [
        "environment, first generation",
        "nodes",
        "measured (s)",
        "replayed (s)",
        "measured / replayed",
    ]
    rows = [
        [
            line["world"],
            str(line["nodes"]),
            f"{line['seconds']:.2f}",
            f"{line['replayed_seconds']:.2f}",
            f"{line['seconds'] / line['replayed_seconds']:.3f}",
        ]
        for line in result["live"]
    ]
    return f"{table(heads, rows)}\n\n{source(result)}"


def tickets(result: Result) -> str:
    """What drawing a row costs."""
    rows = [
        [str(drawn["processes"]), number(drawn["microseconds_per_ticket"])]
        for drawn in result["tickets"]
    ]
    body = table(["processes that draw tickets", "µs per ticket, all processes together"], rows)
    return f"{body}\n\n{source(result)}"
