"""Fill the tables of the pages in docs from benchmarks/results: every figure there comes from a command.

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``; what was between them is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT

DOCS = ROOT / "docs"
Result = dict[str, Any]
RANKS_PER_NODE = 64


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; every column but the first to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def compared(measured: Result, extra: tuple[str, dict[str, float]] | None = None) -> str:
    """Contenders with medians, quartiles and what the first one is beside them."""
    heads = [f"{measured['name']} ({measured['unit']})", "median", "quartiles", "speedup of esd"]
    rows = []
    for figure in measured["figures"]:
        ratio = figure["against"]
        low, high = figure["against_quartiles"]
        if measured["more_is_better"]:
            ratio, low, high = 1 / ratio, 1 / high, 1 / low
        beside = f"{number(ratio)} × ({number(low)} to {number(high)})"
        rows.append(
            [
                figure["name"],
                number(figure["median"]),
                " to ".join(number(quartile) for quartile in figure["quartiles"]),
                "" if figure is measured["figures"][0] else beside,
            ]
        )
        if extra:
            rows[-1].append(number(extra[1][figure["name"]]))
    return table([*heads, extra[0]] if extra else heads, rows)


def source(result: Result) -> str:
    """The command under a table."""
    return f"`{result['command']}`"


def compared_all(result: Result) -> str:
    """All tables of a result, and its command."""
    return "\n\n".join([*(compared(measured) for measured in result["tables"]), source(result)])


def cartpole(result: Result) -> str:
    """Rates, with the lengths of episodes that they depend on."""
    lengths = "steps per episode", result["steps_per_episode"]
    return f"{compared(result['tables'][0], lengths)}\n\n{source(result)}"


def scaling(result: Result) -> str:
    """Both lines of points."""
    parts = []
    for line in ("over_population", "over_coordinates"):
        rows = [
            [
                f"{p['population']:,}",
                f"{p['coordinates']:,}",
                number(p["ask_ms"][1]),
                number(p["tell_ms"][1]),
                " to ".join(number(p["tell_ms"][i]) for i in (0, 2)),
                number(p["millions_per_second"]),
            ]
            for p in result[line]
        ]
        heads = [
            "population",
            "\\|h\\|",
            "perturbing one member (ms)",
            "update (ms)",
            "update, quartiles (ms)",
            "million samples/s",
        ]
        parts.append(table(heads, rows))
    return "\n\n".join([*parts, source(result)])


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


def machine(result: Result) -> str:
    """What the figures were measured on."""
    found = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['cores']} cores of an {found['processor']}, {found['system']}, Python "
        f"{found['python']}; {packages}."
    )


def on_gpu(result: Result) -> str:
    """All work in one table, a GPU beside one core of its machine, and which one it was."""
    heads = ["work", "one core", "slots", "GPU", "GPU relative to one core"]
    rows = []
    for measured in result["tables"]:
        core, *others = measured["figures"]
        for figure in others:
            low, high = figure["against_quartiles"]
            ratio = f"{number(figure['against'])} × ({number(low)} to {number(high)})"
            slots = figure["name"].removeprefix("GPU, ").removesuffix(" slots")
            rows.append(
                [measured["name"], number(core["median"]), slots, number(figure["median"]), ratio]
            )
    where = f"on one {result['gpu']} and {machine(result)}"
    return f"{table(heads, rows)}\n\n{source(result)} (steps/s), {where}"


def pictures(result: Result) -> str:
    """Both tables, with the quickest of all rounds: others' work on the machine only ever adds."""
    tables = []
    for measured in result["tables"]:
        best = {figure["name"]: figure["best"] for figure in measured["figures"]}
        tables.append(compared(measured, ("best", best)))
    return "\n\n".join([*tables, source(result)])


def _spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    mean, deviation = (f"{value:.{digits}f}".replace("-", "−") for value in values)
    return f"{mean} ± {deviation}"


def brainless(result: Result) -> str:
    """What damaged ants do with zero and with random actions."""
    heads = [
        "leg",
        "`fraction`",
        "actions",
        "return",
        "distance [m]",
        "speed [m/s]",
        "steps",
        "ended early",
    ]
    rows = [
        [
            "intact" if line["leg"] == "none" else line["leg"].replace("_", " "),
            "" if line["leg"] == "none" else f"{line['fraction']:g}",
            line["actions"] + ("" if line["terminates"] else ", no early end"),
            _spread(line["return"], 1),
            _spread(line["meters"], 2),
            _spread(line["speed"], 3),
            f"{line['steps'][0]:,.0f}",
            f"{line['ended_early']} of {line['episodes']}",
        ]
        for line in result["bodies"]
    ]
    return f"{table(heads, rows)}\n\n{source(result)}"


def rates(result: Result) -> str:
    """How fast bodies can be played."""
    heads = [
        "bare environment, random actions, resets included",
        "steps/s",
        "quartiles",
        "relative to the first row",
    ]
    rows = [
        [
            figure["name"],
            number(figure["median"]),
            " to ".join(number(quartile) for quartile in figure["quartiles"]),
            f"{number(figure['against'])} ×",
        ]
        for figure in result["tables"][0]["figures"]
    ]
    return f"{table(heads, rows)}\n\n{source(result)}"


def _figures(measured: Result) -> dict[str, Result]:
    return {figure["name"]: figure for figure in measured["figures"]}


def _from(sizes: list[int], faster: list[bool]) -> str:
    """The size from which on it is faster at all that were measured."""
    slower = [size for size, is_faster in zip(sizes, faster, strict=True) if not is_faster]
    later = [size for size in sizes if not slower or size > max(slower)]
    return f"from {min(later):,} on" if later else "at no measured size"


def attention_batch(result: Result) -> str:
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


def attention_quoted(result: Result) -> str:
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


def attention_stream(result: Result) -> str:
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


def attention_memory(result: Result) -> str:
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


def attention_recall(result: Result) -> str:
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


def algorithms(result: Result) -> str:
    """Evaluations to the target by function and contender, or the best value; and against pycma's."""
    names = list(next(iter(result["functions"].values())))
    rows = []
    for function, found in result["functions"].items():
        cells = []
        for name in names:
            line = found[name]
            if line["evaluations"] is None:
                cells.append(f"best {line['best']:.1e}")
                continue
            text = f"{line['evaluations']:,}"
            reference = found.get("pycma", {}).get("evaluations")
            if name != "pycma" and reference:
                text += f" ({line['evaluations'] / reference:.2f} ×)"
            if line["reached"] < result["seeds"]:
                text += f", {line['reached']} of {result['seeds']} runs"
            cells.append(text)
        rows.append([function, *cells])
    return f"{table(['function', *names], rows)}\n\n{source(result)}"


def compiled_steps(result: Result) -> str:
    """Environments line by line: steps per second in thousands, and ratios of medians."""
    heads = [
        "environment",
        "bare loop",
        "EnvPool",
        "limit",
        "**esd train**",
        "relative to the bare loop",
        "relative to the limit",
    ]
    rows = []
    for measured in result["tables"]:
        figures = {figure["name"]: figure["median"] for figure in measured["figures"]}
        esd = figures["esd train, 1 rank"]
        bare, pool, limit = (figures.get(name) for name in ("bare loop", "EnvPool", "limit"))
        rates = [f"{rate / 1000:,.1f}" if rate else "" for rate in (bare, pool, limit, esd)]
        ratios = [f"{esd / rate:.2f} ×" if rate else "" for rate in (bare, limit)]
        rows.append([measured["name"], *rates, *ratios])
    return f"{table(heads, rows)}\n\n{source(result)} (thousands of environment steps per second, medians)"


Parts = dict[str, tuple[str, Callable[[Result], str]]]
# page → marker → the result's file and what makes its text
PERFORMANCE: Parts = {
    "machine": ("noise", machine),
    "noise": ("noise", compared_all),
    "compiled steps": ("compiled_steps", compiled_steps),
    "hebbian": ("hebbian", compared_all),
    "pictures": ("pictures", pictures),
    "cartpole": ("cartpole", cartpole),
    "scaling": ("scaling", scaling),
    "launch": ("jobs", launch),
    "memory": ("jobs", memory),
    "ranks": ("jobs", ranks),
    "training": ("jobs", compared_all),
    "lockstep": ("lockstep", compared_all),
    "lockstep on a gpu": ("lockstep_gpu", on_gpu),
    "torch modules": ("torch_modules", compared_all),
    "attention batch": ("attention", attention_batch),
    "attention quoted": ("attention", attention_quoted),
    "attention stream": ("attention", attention_stream),
    "attention memory": ("attention", attention_memory),
    "reversible errors": ("reversible", reversible_errors),
    "reversible memory": ("reversible", reversible_memory),
    "schedule worlds": ("schedule", worlds),
    "schedule nodes": ("schedule", nodes_of_64),
    "schedule spread": ("schedule", spread),
    "schedule populations": ("schedule", populations),
    "schedule orders": ("schedule", orders),
    "schedule live": ("schedule", live),
    "schedule tickets": ("schedule", tickets),
}


WORLDS: Parts = {"brainless": ("bodies", brainless), "rates": ("bodies", rates)}
ALGORITHMS: Parts = {"test functions": ("algorithms", algorithms)}
ATTENTION: Parts = {"recall": ("attention", attention_recall)}
PAGES = {
    DOCS / "performance.md": PERFORMANCE,
    DOCS / "worlds.md": WORLDS,
    DOCS / "attention.md": ATTENTION,
    DOCS / "algorithms.md": ALGORITHMS,
}


def filled(text: str, parts: Parts, results: Path) -> str:
    """A page's text with its tables made from a folder of results.

    Raises:
        SystemExit: if the page and ``parts`` don't name the same tables.
    """
    found = re.findall(r"<!-- ((?!end\b)[a-z -]+) -->", text)
    if sorted(found) != sorted(parts):
        raise SystemExit(f"the page has the tables {sorted(found)}, expected {sorted(parts)}")
    for name, (file, make) in parts.items():
        result = json.loads((results / f"{file}.json").read_text("utf-8"))
        begin = text.index(f"<!-- {name} -->\n") + len(f"<!-- {name} -->\n")
        text = f"{text[:begin]}{make(result)}\n{text[text.index('<!-- end -->', begin) :]}"
    return text


def main() -> None:
    """Rewrite the pages."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("--results", type=Path, default=RESULTS, help="[%(default)s]")
    arguments = command_line.parse_args()
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text("utf-8"), parts, arguments.results), "utf-8")


if __name__ == "__main__":
    main()
