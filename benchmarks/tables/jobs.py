"""Tables of whole jobs under mpirun."""

from __future__ import annotations

from benchmarks.tables.markdown import Result, number, source, table


def launch(result: Result) -> str:
    """From launch to the first generation."""
    low, middle, high = result["launch"]["warm_seconds"]
    rows = [
        ["kernels in the cache", f"{middle:.1f} ({low:.1f} to {high:.1f})"],
        ["empty cache", f"{result['launch']['cold_seconds']:.1f}"],
    ]
    heads = [f"launch of {result['ranks']} ranks", "time to the first generation (s)"]
    return f"{table(heads, rows)}\n\n{source(result)}"


def memory(result: Result) -> str:
    """What a rank holds."""
    rows = [
        [
            f"{held['coordinates']:,}",
            f"{4 * held['coordinates'] / 1e6:,.1f}",
            f"{held['own_bytes'] / 1e6:,.0f}",
            f"{held['shared_bytes'] / 1e6:,.0f}",
        ]
        for held in result["memory"]
    ]
    heads = [
        "\\|h\\|, approximately",
        "one vector of that size (MB)",
        "private memory of a rank (MB)",
        "shared memory of the node (MB)",
    ]
    return f"{table(heads, rows)}\n\n{source(result)}"


def ranks(result: Result) -> str:
    """How two ranks compare with one."""
    rows = []
    for line in result["scaling"]:
        low, high = line["quartiles"]
        beside = ""
        if line["ratio"] is not None:
            beside = f"{number(line['ratio'])} × ({number(low)} to {number(high)}) {line['reference_name']}"
        rows.append([line["name"], f"{number(line['value'])} {line['unit']}", beside])
    return f"{table(['measurement', 'median', 'relative to'], rows)}\n\n{source(result)}"
