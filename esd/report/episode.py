"""An episode from inside: rewards, the weights as they change, the activities of all units."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.report import html
from esd.report.figure import Cell, Figure, Key, Table, View, axis, dash_of, line, numbers
from esd.report.html import number
from esd.report.traces import MOST_FRAMES, Layer, Trace

Float32s = npt.NDArray[np.float32]

MOST_COLUMNS = 400  # of the picture of activities
MOST_ROWS = 96
LEVELS = 127  # of a byte on either side of 0
ROWS = 12  # of a table, about
COLORBAR = {"thickness": 10, "tickformat": ".2g", "nticks": 5, "outlinewidth": 0}


def section(traces: list[Trace], recalls: dict[int, str], hint: str) -> str:
    """The part of the page about recorded episodes.

    Args:
        traces: all of them.
        recalls: by number of a trace, figures about what its Reformer recalled.
        hint: how to record an episode, where there is none.
    """
    intro = "One test episode, recorded by esd eval --trace: what the network did at each step."
    if not traces:
        text = f"No episode has been recorded. {hint}"
        return html.section("episode", "Inside an episode", html.notes([text]))
    parts = []
    for i, trace in enumerate(traces):
        cards = {
            "episode of": trace.title,
            "steps": f"{trace.steps:,}",
            "return": number(float(trace.rewards.sum(dtype=np.float64))),
            "file": trace.path.name,
        }
        content = html.definitions(cards)
        if trace.layers:
            content += html.figure(_weights(trace, i))
        content += html.figure(_course(trace, i))
        content += html.figure(_activities(trace, i)) + recalls.get(i, "")
        parts.append(content if i == 0 else html.details(f"Episode of {trace.title}", content))
    return html.section("episode", "Inside an episode", "".join(parts), intro)


def packed(frames: Float32s) -> tuple[str, float]:
    """Frames as signed bytes in base64, and the value that the largest byte stands for.

    A picture has no more shades than a byte has values, and the page stays small.
    """
    finite = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    bytes_of = np.rint(finite / np.float32(largest) * LEVELS).astype(np.int8)
    return base64.b64encode(bytes_of.tobytes()).decode(), largest


def _weights(trace: Trace, index: int) -> Figure:
    """Heat maps of all layers, which a slider takes through the episode."""
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"hovermode": "closest", "meta": {"panels": len(trace.layers)}}
    layers: list[dict[str, Any]] = []
    moves = _moves(trace)
    scale = 0.0
    for i, layer in enumerate(trace.layers):
        text, largest = packed(layer.frames if moves else layer.frames[:1])
        suffix = "" if i == 0 else str(i + 1)
        shape = layer.frames.shape
        layers.append({"bytes": text, "largest": largest, "rows": shape[1], "columns": shape[2]})
        scale = max(scale, largest)
        data.append(
            {
                "type": "heatmap", "z": [], "xaxis": f"x{suffix}", "yaxis": f"y{suffix}",
                "x": layer.of_outputs.tolist(), "y": layer.of_inputs.tolist(), "showscale": i == len(trace.layers) - 1,
                "colorbar": COLORBAR, "hovertemplate": "from unit %{y} to unit %{x}: about %{z:.3g}<extra></extra>",
                "meta": {"diverging": True},
            }
        )  # fmt: skip
        layout[f"xaxis{suffix}"] = axis(f"layer {i + 1} unit", **_ticks(layer.outputs))
        layout[f"yaxis{suffix}"] = axis(
            f"layer {i} unit", autorange="reversed", **_ticks(layer.inputs)
        )
    for each in data:  # one for all layers: there is one bar of colors
        each |= {"zmin": -scale, "zmax": scale}
    moments = [f"{step} of {trace.steps - 1}" for step in trace.moments.tolist()]
    frames = {"layers": layers, "steps": moments if moves else moments[:1]}
    rows: list[list[Cell]] = [
        [
            f"layer {i} to {i + 1}", layer.inputs, layer.outputs, float(layer.size[0]), float(layer.size[-1]),
            float(layer.change[-1]),
        ]
        for i, layer in enumerate(trace.layers)
    ]  # fmt: skip
    head = [
        "weights",
        "inputs",
        "outputs",
        "mean |w| at the start",
        "mean |w| at the end",
        "mean change",
    ]
    caption = "Each cell is the weight from the unit of its row to the unit of its column."
    if not moves:
        caption += " These weights do not change during an episode."
    elif len(moments) == MOST_FRAMES:
        caption += f" {MOST_FRAMES} moments of the episode are shown."
    if any(_is_part(layer) for layer in trace.layers):
        caption += " For large layers, a selection of evenly spaced units is shown."
    described = "; ".join(
        f"layer {i} to {i + 1}, {layer.inputs} × {layer.outputs}: mean size from {number(float(layer.size[0]))} to "
        f"{number(float(layer.size[-1]))}"
        for i, layer in enumerate(trace.layers)
    )
    return Figure(
        f"weights-{index}",
        "The weights during the episode" if moves else "The weights",
        f"Heat maps of the weights, one for each layer, at a step that the slider chooses. {described}.",
        {"": View(data, layout)},
        Table(head, rows, "Weights at the start and at the end of the episode"),
        caption,
        (),
        (),
        300,
        frames,
    )


def _ticks(units: int) -> dict[str, int]:
    """Whole numbers on an axis."""
    return {"dtick": 1} if units <= 6 else {"nticks": 5}


def _moves(trace: Trace) -> bool:
    """Whether weights change during the episode."""
    return any(layer.change.any() for layer in trace.layers)


def _is_part(layer: Layer) -> bool:
    return layer.of_inputs.size < layer.inputs or layer.of_outputs.size < layer.outputs


def _course(trace: Trace, index: int) -> Figure:
    """The return so far, and how large the weights are and how far they have moved."""
    steps = np.arange(trace.steps)
    total = np.cumsum(trace.rewards, dtype=np.float64)
    thin = np.unique(np.linspace(0, trace.steps - 1, min(trace.steps, MOST_COLUMNS)).astype(int))

    def of_layers(values: list[npt.NDArray[np.float64]]) -> list[dict[str, Any]]:
        style = {"mode": "lines+markers", "marker": {"size": 4}}
        return [
            line(f"layer {i}", trace.moments, own, i + 1, line={"dash": dash_of(i)}, **style)
            for i, own in enumerate(values)
        ]

    moved = of_layers([layer.change for layer in trace.layers])
    size = of_layers([layer.size for layer in trace.layers])
    of_return = [line("return", steps[thin], total[thin], 0)]
    x = axis("step of the episode", rangemode="tozero")

    def view(data: list[dict[str, Any]], title: str) -> View:
        return View(data, {"xaxis": x, "yaxis": axis(title), "hovermode": "x unified"})

    of_episode = {"return so far": view(of_return, "return so far")}
    if _moves(trace):
        of_weights = {
            "distance of the weights from the start": view(moved, "mean |w − w at the start|"),
            "mean size of the weights": view(size, "mean |w|"),
        }
        of_episode = of_weights | of_episode
    views = {str(i): own for i, own in enumerate(of_episode.values())}
    names = [f"layer {i} to {i + 1}" for i in range(len(trace.layers))]
    every = max(1, len(trace.moments) // ROWS)
    rows: list[list[Cell]] = [
        [
            step,
            float(total[min(step, trace.steps - 1)]),
            *(float(layer.change[place]) for layer in trace.layers),
        ]
        for place, step in list(enumerate(trace.moments.tolist()))[::every]
    ]
    head = ["step", "return so far", *(f"change of {name}" for name in names)]
    keys = [Key(f"layer {i}", name, i + 1, dash_of(i)) for i, name in enumerate(names)]
    words = f"Line chart. The return grows to {number(float(total[-1]))} in {trace.steps:,} steps."
    if _moves(trace):
        ends = zip(names, trace.layers, strict=True)
        words += " Mean distance of the weights from the start, at the end: "
        words += (
            "; ".join(f"{name} {number(float(layer.change[-1]))}" for name, layer in ends) + "."
        )
    return Figure(
        f"course-{index}",
        "Return and weights during the episode",
        words,
        views,
        Table(head, rows, "Return and weights during the episode at some steps", ()),
        "",
        (("Show", list(of_episode)),),
        keys if _moves(trace) else (),
        260,
    )  # fmt: skip


def _activities(trace: Trace, index: int) -> Figure:
    """All units over all steps, layer below layer."""
    columns = np.unique(np.linspace(0, trace.steps - 1, min(trace.steps, MOST_COLUMNS)).astype(int))
    views: dict[str, View] = {}
    options: list[str] = []
    rows: list[list[Cell]] = []
    for i, values in enumerate(trace.activities):
        count = values.shape[1]
        units = np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(int))
        drawn = values[np.ix_(columns, units)].T
        finite = np.abs(drawn[np.isfinite(drawn)])
        largest = (float(np.quantile(finite, 0.995)) if finite.size else 0.0) or 1.0
        heat = {
            "type": "heatmap",
            "x": columns.tolist(),
            "y": units.tolist(),
            "z": [numbers(row, 3) for row in drawn],
            "zmin": -largest,
            "zmax": largest,
            "colorbar": COLORBAR,
            "hovertemplate": "unit %{y}, step %{x}: %{z:.3g}<extra></extra>",
            "meta": {"diverging": True},
        }
        layout = {
            "xaxis": axis("step of the episode"),
            "yaxis": axis("unit", **_ticks(units.size)),
            "hovermode": "closest",
        }
        views[str(i)] = View([heat], layout)
        options.append(_layer_name(i, len(trace.activities)))
        wide = values.astype(np.float64)
        saturated = float((np.abs(wide) > 0.99).mean() * 100.0)
        rows.append([options[-1], count, float(wide.mean()), float(wide.std()), saturated])
    words = "; ".join(f"{row[0]}: standard deviation {html.cell(row[3], 3)}" for row in rows)
    return Figure(
        f"activities-{index}",
        "Activities",
        f"Heat map of the activity of every unit at every step. {words}.",
        views,
        Table(
            ["layer", "units", "mean", "std", "beyond ±0.99 in %"],
            rows,
            "Activities during the episode",
        ),
        "",
        (("Layer", options),),
        (),
        280,
    )


def _layer_name(number_of: int, count: int) -> str:
    if number_of == 0:
        return "0: input"
    return f"{number_of}: output" if number_of == count - 1 else str(number_of)
