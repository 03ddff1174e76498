"""Tables of LSH attention and of reversible blocks."""

from __future__ import annotations

from benchmarks.tables.markdown import Result, number, source, table


def _figures(measured: Result) -> dict[str, Result]:
    return {figure["name"]: figure for figure in measured["figures"]}


def _from(sizes: list[int], faster: list[bool]) -> str:
    """The size from which on it is faster at all that were measured."""
    slower = [size for size, is_faster in zip(sizes, faster, strict=True) if not is_faster]
    later = [size for size in sizes if not slower or size > max(slower)]
    return f"from {min(later):,} on" if later else "at no measured size"


def batch(result: Result) -> str:
    """Whole sequences, and from which length on hashing is faster."""
    points = result["batch"]
    counts = list(points[0]["candidates"])
    names = [figure["name"] for figure in points[0]["table"]["figures"]][1:]
    rows = []
    for point in points:
        figures = _figures(point["table"])
        cells = []
        for name in names:
            low, high = (1 / quartile for quartile in figures[name]["against_quartiles"][::-1])
            cells.append(number(figures[name]["median"]))
            cells.append(
                f"{number(1 / figures[name]['against'])} × ({number(low)} to {number(high)})"
            )
        full = number(figures["torch, full attention"]["median"])
        found = ", ".join(f"{point['candidates'][count]:.0f}" for count in counts)
        rows.append([f"{point['length']:,}", full, *cells, found])
    heads = [head for name in names for head in (f"{name} (ms)", "speedup")]
    heads = [
        "tokens",
        "torch, full attention (ms)",
        *heads,
        f"keys found with {', '.join(counts)} hashes",
    ]
    lengths = [point["length"] for point in points]
    crossings = [
        f"{name.removeprefix('esd, ')} {_from(lengths, faster)}"
        for name in names
        for faster in [[_figures(point["table"])[name]["against"] < 1 for point in points]]
    ]
    text = f"Faster than torch's full attention, in tokens: {'; '.join(crossings)}."
    return f"{table(heads, rows)}\n\n{text}\n\n{source(result)}"


def quoted(result: Result) -> str:
    """Others' figures and ours, each beside the full attention of its own run."""
    low, high = result["quoted"]["full_ms"]
    rows = []
    for quoted in result["quoted"]["contenders"]:
        fastest, slowest = quoted["ms"]
        share = f"{fastest / high:.2f} to {slowest / low:.2f}"
        rows.append([quoted["name"], str(quoted["hashes"]), share, "quoted, another machine"])
    for point in result["batch"]:
        if point["length"] == 8192:
            for figure in point["table"]["figures"][1:]:
                low, high = figure["against_quartiles"]
                count = figure["name"].split()[1]
                rows.append(["esd", count, f"{low:.2f} to {high:.2f}", "this run, quartiles"])
    heads = ["8,192 tokens", "hashes", "time relative to torch's full attention", "source"]
    return f"{table(heads, rows)}\n\n{source(result)}"


def stream(result: Result) -> str:
    """One step over the history, and from which history on hashing is faster."""
    points = result["stream"]
    counts = list(points[0]["bytes"])
    rows, faster = [], []
    for point in points:
        figures = _figures(point["table"])
        ours = [figures[f"esd, {n} hash{'es' if n != '1' else ''}"]["median"] for n in counts]
        full = [figure for name, figure in figures.items() if name.startswith("full")]
        best = min(full, key=lambda figure: figure["median"])
        low, high = best["against_quartiles"]
        faster.append(best["against"] > 1)
        rows.append(
            [
                f"{point['history']:,}",
                f"{point['buckets']:,}",
                *map(number, ours),
                number(figures["esd, 4 hashes, called from Python"]["median"]),
                f"{number(best['median'])} ({best['name'].removeprefix('full attention, ')})",
                f"{number(best['against'])} × ({number(low)} to {number(high)})",
            ]
        )
    heads = [
        "history", "buckets", *(f"{n} hash{'es' if n != '1' else ''} (µs)" for n in counts),
        "4 hashes, called from Python (µs)", "fastest full attention (µs)", "speedup of 4 hashes",
    ]  # fmt: skip
    histories = [point["history"] for point in points]
    crossing = f"4 hashes are faster than every full attention {_from(histories, faster)}."
    return f"{table(heads, rows)}\n\n{crossing}\n\n{source(result)}"


def memory(result: Result) -> str:
    """What a stream allocates."""
    counts = list(result["stream"][0]["bytes"])
    rows = [
        [
            f"{point['history']:,}",
            f"{point['full_bytes']:,}",
            *(f"{point['bytes'][n]:,}" for n in counts),
            *(f"{point['candidates'][n]:.0f}" for n in counts),
        ]
        for point in result["stream"]
    ]
    names = [f"{n} hash{'es' if n != '1' else ''}" for n in counts]
    heads = ["history", "keys and values (B)", *(f"{name} (B)" for name in names)]
    return f"{table([*heads, *(f'{name} (keys)' for name in names)], rows)}\n\n{source(result)}"


def recall(result: Result) -> str:
    """What hashing misses."""
    cosines = list(result["recall"][0]["recalled"])
    rows = [
        [
            f"{line['buckets']:,}",
            str(line["hashes"]),
            f"{line['candidates']:.0f}",
            *(f"{line['recalled'][cosine]:.2f}" for cosine in cosines),
        ]
        for line in result["recall"]
    ]
    heads = ["buckets", "hashes", "keys found", *(f"recall at cosine {c}" for c in cosines)]
    return f"{table(heads, rows)}\n\n{source(result)}"


def reversible_errors(result: Result) -> str:
    """How far inverses are off."""
    rows = [
        [str(line["blocks"]), f"{line['float']:.1e}", str(line["lifting"])]
        for line in result["errors"]
    ]
    heads = ["blocks", "error of the float32 inverse", "error of lifting"]
    return f"{table(heads, rows)}\n\n{source(result)}"


def reversible_memory(result: Result) -> str:
    """What gradients hold and take."""
    rows = []
    for line, measured in zip(result["memory"], result["tables"], strict=True):
        ours, plain = measured["figures"]
        low, high = (1 / quartile for quartile in plain["against_quartiles"][::-1])
        rows.append(
            [
                str(line["blocks"]),
                f"{line['reversible_bytes'] / 1e6:.1f}",
                f"{line['plain_bytes'] / 1e6:.1f}",
                f"{line['gradients_off']:.1e}",
                number(ours["median"]),
                number(plain["median"]),
                f"{number(1 / plain['against'])} × ({number(low)} to {number(high)})",
            ]
        )
    heads = [
        "blocks", "memory, reversible (MB)", "memory, standard (MB)", "relative difference of gradients",
        "time, reversible (ms)", "time, standard (ms)", "time, reversible / standard",
    ]  # fmt: skip
    return f"{table(heads, rows)}\n\n{source(result)}"
