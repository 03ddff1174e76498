"""Draw docs/figures from benchmarks/results; needs matplotlib (pip install 'esd-mpi[benchmarks]')."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT

FIGURES = ROOT / "docs" / "figures"
RANKS_PER_NODE = 64
OURS, THEIRS = "#1b6ca8", "#b8bec4"


def noise(result: dict[str, Any]) -> Any:
    """Bars: what the weighted sum of a generation's noise takes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    figures = sorted(result["tables"][0]["figures"], key=lambda f: -f["median"])
    names = [f["name"] for f in figures]
    medians = [f["median"] for f in figures]
    colors = [OURS if name.startswith("esd") else THEIRS for name in names]
    low = [f["median"] - f["quartiles"][0] for f in figures]
    high = [f["quartiles"][1] - f["median"] for f in figures]
    axes.barh(names, medians, color=colors, xerr=[low, high], error_kw={"lw": 0.8})
    axes.set_xscale("log")
    axes.set_xlim(left=min(medians) / 3)
    figure.supxlabel(f"ms for {result['tables'][0]['name']}, one core", fontsize=9)
    return figure


def schedule(result: dict[str, Any]) -> Any:
    """Lines: share of the ideal over ranks, for nodes of 64."""
    import matplotlib.pyplot as plt

    worlds = [world["world"] for world in result["worlds"]]
    figure, axes = plt.subplots(1, len(worlds), figsize=(9, 2.8), sharey=True, layout="constrained")
    styles = {
        "bound": ("no schedule can beat", ":", "black"),
        "esd": ("esd", "-o", OURS),
        "fixed": ("fixed split", "--s", THEIRS),
    }
    for ax, world in zip(axes, worlds, strict=True):
        rows = [
            r
            for r in result["replay"]
            if r["world"] == world and r["ranks"] == r["nodes"] * RANKS_PER_NODE
        ]
        for key, (label, style, color) in styles.items():
            ranks = [r["ranks"] for r in rows]
            ax.plot(ranks, [r[key] for r in rows], style, color=color, label=label, ms=4)
        ax.set_xscale("log", base=2)
        ax.set_xticks([64, 128, 256, 512, 1024], [64, 128, 256, 512, "1,024"], fontsize=7)
        ax.set_title(world, fontsize=9)
        ax.set_ylim(0, 1.05)
    axes[0].set_ylabel("share of the ideal")
    axes[0].legend(fontsize=7, loc="lower left")
    figure.supxlabel("ranks, 64 on each node; 1,024 members", fontsize=9)
    return figure


def scaling(result: dict[str, Any]) -> Any:
    """Lines: the update over the population and over |h|."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
    lines = (("over_population", "population"), ("over_coordinates", "coordinates"))
    for ax, (line, x) in zip(axes, lines, strict=True):
        points = result[line]
        other = "coordinates" if x == "population" else "population"
        xs = [p[x] for p in points]
        ax.loglog(xs, [p["tell_ms"][1] for p in points], "-o", color=OURS, ms=4, label="update")
        ax.loglog(
            xs, [p["ask_ms"][1] for p in points], "-s", color=THEIRS, ms=4, label="one member"
        )
        ax.set_xlabel(f"{x.replace('coordinates', '|h|')}; {points[0][other]:,} "
                      f"{'coordinates' if x == 'population' else 'members'}")  # fmt: skip
    axes[0].set_ylabel("ms, one core")
    axes[0].legend(fontsize=8)
    return figure


def attention(result: dict[str, Any]) -> Any:
    """Lines: whole sequences over their length, one step over the history."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    parts = (("batch", "length", "tokens", "ms"), ("stream", "history", "history", "µs per step"))
    for ax, (part, size, x, y) in zip(axes, parts, strict=True):
        points = result[part]
        sizes = [point[size] for point in points]
        names = [figure["name"] for figure in points[0]["table"]["figures"]]
        for name in sorted(names, key=lambda name: ("full" not in name, name)):
            if "Python" in name:
                continue
            medians = [
                figure["median"]
                for point in points
                for figure in point["table"]["figures"]
                if figure["name"] == name
            ]
            full = "full" in name
            # the more hashes, the darker
            shade = 1.0 if full else 0.3 + 0.7 * [1, 2, 4, 8].index(int(name.split()[1])) / 3
            style = {"color": THEIRS, "marker": "s"} if full else {"color": OURS, "marker": "o"}
            lines = {"numpy": "-", "torch": "--", "one bucket": ":"}
            line = next((line for key, line in lines.items() if full and key in name), "-")
            ax.loglog(sizes, medians, line, ms=3, alpha=shade, label=name, **style)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.legend(fontsize=6)
    return figure


PLOTS = {"noise": noise, "schedule": schedule, "scaling": scaling, "attention": attention}


def as_svg() -> None:
    """Let figures come out as SVG that is the same for the same results."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "esd", "font.size": 8})


def save(figure: Any, path: Path) -> None:
    """Write a figure and forget it."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw(results: Path, folder: Path) -> None:
    """Draw all figures."""
    as_svg()
    for name, plot in PLOTS.items():
        figure = plot(json.loads((results / f"{name}.json").read_text("utf-8")))
        save(figure, folder / f"{name}.svg")


def main() -> None:
    """Draw."""
    command_line = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    command_line.add_argument("--results", type=Path, default=RESULTS, help="[%(default)s]")
    command_line.add_argument("--figures", type=Path, default=FIGURES, help="[%(default)s]")
    arguments = command_line.parse_args()
    draw(arguments.results, arguments.figures)


if __name__ == "__main__":
    main()
