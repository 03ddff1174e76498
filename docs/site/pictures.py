"""Draw the pictures of docs/concepts: python docs/site/pictures.py; needs matplotlib (the extra "benchmarks").

Each picture is one SVG file for light and for dark mode: four colors change with the color scheme of the page. What
can be computed is computed by esd itself: weights of an episode, an update, buckets.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FIGURES = Path(__file__).parent.parent / "figures"
INK, PAPER, PANEL, FAINT = "#1f2328", "#fffffe", "#e9eef5", "#6b7480"
DARK = {INK: "#e6e9ef", PAPER: "#1e2129", PANEL: "#343a48", FAINT: "#a3abb8"}
BLUE, ORANGE, GREEN = "#3f83c9", "#d9780f", "#2f9e6e"  # readable on both


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """An empty drawing, a unit being a tenth of an inch."""
    figure, axes = plt.subplots(figsize=(width, height), facecolor=PAPER)
    axes.set(xlim=(0, 10 * width), ylim=(0, 10 * height))
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axes


def box(
    axes: Any, x: float, y: float, width: float, height: float, text: str, edge: str = FAINT
) -> None:
    """A rounded box with text in its middle."""
    shape = FancyBboxPatch(
        (x, y), width, height, "round,pad=0,rounding_size=1.2", fc=PANEL, ec=edge
    )
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=INK, size=9.5)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """An arrow in the color of faint text."""
    style = {"color": FAINT, "lw": 1.4, **style}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, **style))


def note(axes: Any, x: float, y: float, text: str, color: str = FAINT, **style: Any) -> None:
    """Small text beside something."""
    axes.text(x, y, text, color=color, **{"size": 9, "ha": "center", "va": "center", **style})


def plot(axes: Any) -> None:
    """Axes in the colors that change."""
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=FAINT, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set(color=FAINT, visible=side in ("left", "bottom"))
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set(color=INK, size=9.5)


def hebbian() -> Any:
    """One step of a plastic network."""
    figure, axes = canvas(7.6, 2.9)
    box(axes, 2, 12, 11, 7, "observation")
    box(axes, 22, 12, 16, 7, "network\nwith weights w", BLUE)
    box(axes, 47, 12, 9, 7, "action")
    box(axes, 64, 12, 10, 7, "environment")
    box(axes, 22, 1.2, 16, 6, "Δw = η(A·xy + B·x\n+ C·y + D)", ORANGE)
    box(axes, 47, 1.2, 24, 6, "evolved: A, B, C, D, η\nof every connection", ORANGE)
    arrow(axes, (13, 15.5), (22, 15.5))
    arrow(axes, (38, 15.5), (47, 15.5))
    arrow(axes, (56, 15.5), (64, 15.5))
    arrow(axes, (69, 19), (7.5, 19), connectionstyle="arc3,rad=0.16")
    note(axes, 38, 26.4, "next observation: 1 step of the environment")
    arrow(axes, (33, 12), (33, 7.2), color=ORANGE)
    arrow(axes, (27, 7.2), (27, 12), color=ORANGE)
    arrow(axes, (47, 4.2), (38, 4.2), color=ORANGE)
    note(axes, 34, 9.6, "activities x, y", ha="left")
    note(axes, 26, 9.6, "new w", ha="right")
    note(axes, 11, 5.4, "An episode starts\nwith random w.")
    return figure


def weights() -> Any:
    """Weights of a trained network in an episode, and in another one that began with other weights."""
    from safetensors.numpy import load_file

    import esd

    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.5), sharey=True, facecolor=PAPER)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        esd.train("cartpole", seed=1, run=run)
        for axis, seed in zip(axes, (1, 2), strict=True):
            trace = Path(folder, f"{seed}.safetensors")
            command = [sys.executable, "-m", "esd", "eval", str(run), "--episodes", "1"]
            words = [*command, "--seed", str(seed), "--trace", str(trace)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            w = load_file(trace)["weights.2"][:60]  # [steps, inputs, outputs]
            axis.plot(w.reshape(len(w), -1), lw=1.1)
            axis.set(xlabel="step", title=f"episode {seed}")
            plot(axis)
    axes[0].set_ylabel("weights of the last layer")
    figure.tight_layout()
    return figure


def update() -> Any:
    """One update on a function of two parameters."""
    import esd

    figure, axes = plt.subplots(figsize=(4.4, 3.4), facecolor=PAPER)
    h = np.array([-1.1, -0.6])

    def value(x: Any) -> Any:
        return -((x[..., 0] - 0.9) ** 2) - 2.0 * (x[..., 1] - 0.5) ** 2

    grid = np.stack(np.meshgrid(np.linspace(-2.4, 2, 80), np.linspace(-2, 1.6, 80)), axis=-1)
    axes.contour(
        grid[..., 0], grid[..., 1], value(grid), 9, colors=FAINT, linewidths=0.6, alpha=0.6
    )
    evolution = esd.Evolution(
        h,
        direction="maximize",
        population=12,
        sigma=0.45,
        seed=3,
        learning_rate=0.5,
        optimizer="sgd",
    )
    members = np.array(evolution.ask(), np.float64)
    values = value(members)
    evolution.tell(values)
    following = np.asarray(evolution.center, np.float64)
    for one, other in zip(members[::2], members[1::2], strict=True):
        axes.plot(*np.stack([one, other]).T, color=FAINT, lw=0.9)
    better = values > np.median(values)
    axes.scatter(*members[better].T, color=GREEN, s=34, zorder=3, label="better half")
    axes.scatter(*members[~better].T, color=ORANGE, s=34, zorder=3, label="worse half")
    axes.annotate("", following, h, arrowprops={"arrowstyle": "-|>", "color": BLUE, "lw": 2.4})
    axes.scatter(*h, color=BLUE, s=60, zorder=4, label="center h, and its step")
    axes.scatter(0.9, 0.5, color=INK, marker="*", s=90, zorder=3, label="best possible")
    axes.set(xlabel="first parameter", ylabel="second parameter", xticks=[], yticks=[])
    plot(axes)
    legend = axes.legend(fontsize=8, facecolor=PANEL, edgecolor=FAINT, labelcolor=INK, framealpha=1)
    legend.set_zorder(5)
    figure.tight_layout()
    return figure


def exchange() -> Any:
    """What three ranks do in a generation, and what crosses the network."""
    figure, axes = canvas(7.6, 3.3)
    note(axes, 15, 31, "1  rebuild and evaluate", INK, weight="bold")
    note(axes, 38, 31, "2  exchange", INK, weight="bold")
    note(axes, 61, 31, "3  update a slice of h", INK, weight="bold")
    box(axes, 32, 3.5, 12, 24, "one record\nper member:\n\n48 bytes", BLUE)
    for rank, y in enumerate((20.5, 12, 3.5)):
        box(axes, 2, y, 24, 7, f"rank {rank}:  seed → ε → h ± σε,\nplays members of the queue")
        arrow(axes, (26, y + 3.5), (32, y + 3.5), color=BLUE)
        arrow(axes, (44, y + 3.5), (50, y + 3.5), color=BLUE)
        box(
            axes,
            50,
            y,
            24,
            7,
            f"rank {rank}:  all returns, seed → all ε\n→ slice {rank} of the new h",
        )
    return figure


def laws() -> Any:
    """The same parameters after the same generation, whatever happened on the way."""
    figure, axes = canvas(7.6, 2.9)
    rows = (
        (21, "1 rank", (0, 1, 2, 3, 4), BLUE),
        (13, "64 ranks", (0, 1, 2, 3, 4), BLUE),
        (5, "killed, then\nresumed on 3 ranks", (0, 1, 2), BLUE),
    )
    for y, name, generations, color in rows:
        note(axes, 2, y + 2.2, name, INK, ha="left")
        for t in generations:
            x = 21 + 11 * t
            box(axes, x, y, 7, 4.4, f"$h_{t}$", color)
            if t < 4:
                arrow(axes, (x + 7, y + 2.2), (x + 11, y + 2.2))
    note(axes, 52, 7.2, "✕", "#cf3f3f", size=13, weight="bold")
    for t in (3, 4):
        x = 21 + 11 * t
        box(axes, x, 5, 7, 4.4, f"$h_{t}$", GREEN)
    arrow(axes, (61, 7.2), (65, 7.2))
    note(axes, 57.5, 2.4, "journal → same h again", GREEN)
    note(axes, 46, 27.3, "each column: the same bits")
    return figure


def lsh() -> Any:
    """Keys in their buckets, and how many a query is compared with."""
    from esd.attention import angular

    rng = np.random.default_rng(4)
    keys = rng.normal(size=(160, 2)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    radius = np.sqrt(rng.uniform(0.35, 1.0, len(keys)))
    query = np.array([[0.86, 0.51]], np.float32)
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), facecolor=PAPER)
    for axis, rounds in zip(axes, (1, 2), strict=True):
        hashed = angular(seed=8, size=2, rounds=rounds, buckets=8)
        found = (hashed(keys) == hashed(query)).any(0)
        points = keys * radius[:, None]
        axis.scatter(*points[~found].T, s=14, color=FAINT, alpha=0.55, label="not compared")
        axis.scatter(*points[found].T, s=22, color=GREEN, label="shares a bucket with the query")
        axis.annotate(
            "", query[0] * 1.2, (0, 0), arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 2.2}
        )
        axis.text(*(query[0] * 1.26), "query", color=ORANGE, size=9.5, ha="left", va="center")
        plural = "s" if rounds > 1 else ""
        axis.set_title(f"{rounds} round{plural}: {found.sum()} of {len(keys)} keys")
        axis.set(xlim=(-1.5, 1.75), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
        plot(axis)
        for spine in axis.spines.values():
            spine.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", ncols=2, fontsize=9, frameon=False, labelcolor=INK
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    return figure


PICTURES = {p.__name__: p for p in (hebbian, weights, update, exchange, laws, lsh)}


def for_both_modes(svg: str) -> str:
    """The picture, with rules that change its colors where the page is dark."""
    rules = "".join(
        f'[style*="{what}: {light}"] {{{what}: {dark} !important}} '
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    style = (
        f'<style type="text/css">@media (prefers-color-scheme: dark) {{{rules}}}</style>\n </defs>'
    )
    return svg.replace("</defs>", style, 1)


def main(names: list[str]) -> None:
    """Draw the pictures of these names, or all."""
    settings = {"svg.hashsalt": "esd", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
    for name in names or PICTURES:
        with plt.rc_context(settings):
            figure = PICTURES[name]()
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None}, facecolor=PAPER)
            plt.close(figure)
        lines = (line.rstrip() for line in for_both_modes(text.getvalue()).splitlines())
        path = FIGURES / f"concept-{name}.svg"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
