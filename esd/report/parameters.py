"""What evolved: the distribution of each array of h (A, B, C, D and η of each layer), or a function's parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.policies.hebbian import HebbianSettings
from esd.problems.make import parameters_of
from esd.report import html
from esd.report.figure import Cell, Figure, Key, Table, Trace, View, axis, line, numbers
from esd.report.runs import Arm, ReportedRun

Float32s = npt.NDArray[np.float32]

BINS = 60
MOST_LAYERS, MOST_ARRAYS = 8, 8
MOST_VALUES = 200  # of a function's parameters in a table
NAMES = {"eta": "η", "D_out": "D (outside of η)", "w": "w"}
FORMULA = "Δw = η(A·xy + B·x + C·y + D)"


@dataclass(frozen=True)
class Distribution:
    """One array of h over all runs of a group.

    Attributes:
        layer: as it is called in h, such as "layer0".
        part: such as "A".
        evolved: all coordinates of all runs, float32 [n].
        initial: the same of h_0; None if it is not known.
    """

    layer: str
    part: str
    evolved: Float32s
    initial: Float32s | None


def section(arms: Sequence[Arm]) -> str:
    """The part of the page about h."""
    found = "".join(_objective_table(arm) for arm in arms if arm.runs[0].objective)
    if all(arm.runs[0].objective for arm in arms):
        return html.section("parameters", "Evolved parameters", found) if found else ""
    parts = [found] if found else []
    for i, arm in enumerate(arms):
        if arm.runs[0].objective:
            continue
        panels = _panels(distributions(arm))
        figures = [html.figure(_figure(arm, i, title, own)) for title, own in panels[:MOST_LAYERS]]
        content = "".join(figures)
        if len(panels) > MOST_LAYERS:
            rest = [d for _, own in panels[MOST_LAYERS:] for d in own]
            content += html.details(
                f"{len(panels) - MOST_LAYERS} more layers", html.table(_table(arm, rest))
            )
        if content:
            parts.append(
                f"<h3>{html.escaped(arm.name)}</h3>\n{content}" if len(arms) > 1 else content
            )
    if not parts:
        return ""
    texts = {checkpoints_of(arm) for arm in arms if not arm.runs[0].objective} - {""}
    which = texts.pop() if len(texts) == 1 else "the checkpoint that is named below each figure"
    intro = f"Distributions of the values of each array of h, at the start and in {which}."
    intro += _rules(arms)
    return html.section("parameters", "Evolved parameters", "".join(parts), intro)


def checkpoints_of(arm: Arm) -> str:
    """Which checkpoints the parameters of a group are of: "the best checkpoint, generation 2"; empty without any."""
    known = [run.parameters for run in arm.runs if run.parameters is not None]
    texts = []
    for name, best in (("best", True), ("newest", False)):
        found = sorted(p.generation for p in known if p.best == best)
        if not found:
            continue
        first, last = (html.number(generation) for generation in (found[0], found[-1]))
        which = f"generation {first}" if first == last else f"generations {first} to {last}"
        runs = "" if len(arm.runs) == 1 else f" of {len(found)} run{'s' * (len(found) != 1)}"
        texts.append(f"the {name} checkpoint{runs}, {which}")
    return ", and ".join(texts)


def _rules(arms: Sequence[Arm]) -> str:
    """What the rules of Hebbian networks are, as a sentence; nothing without such networks."""
    runs = [run for arm in arms for run in arm.runs if not run.objective]
    settings = [run.config.policy.settings for run in runs]
    counts = sorted({own.rules for own in settings if isinstance(own, HebbianSettings)})
    if not counts:
        return ""
    shared = f"(policy.rules = {' or '.join(str(count) for count in counts if count)})"
    if counts == [0]:
        text = "Every synapse of a Hebbian network has its own rule"
    elif 0 in counts:
        text = f"Synapses of a Hebbian network have rules of their own or share rules {shared}"
    else:
        text = f"The synapses of a Hebbian network share rules {shared}"
    where = "x is the activity of the unit before the synapse, y that of the unit after it"
    return f" {text} {FORMULA}: {where}."


def distributions(arm: Arm) -> list[Distribution]:
    """The arrays of h, those of all runs of a group together."""
    known = [run.parameters for run in arm.runs if run.parameters is not None]
    if not known:
        return []
    evolved = [p.layout.unpack(np.ascontiguousarray(p.h)) for p in known]
    started = [
        p.layout.unpack(np.ascontiguousarray(p.initial)) for p in known if p.initial is not None
    ]
    found = []
    for name in known[0].layout.shapes:
        layer, dot, part = name.rpartition(".")
        if not dot:
            layer, part = "other arrays", name
        pooled = np.concatenate([arrays[name].ravel() for arrays in evolved])
        first = None
        if len(started) == len(known):
            first = np.concatenate([arrays[name].ravel() for arrays in started])
        found.append(Distribution(layer, part, pooled, first))
    return found


def _panels(found: list[Distribution]) -> list[tuple[str, list[Distribution]]]:
    """What stands in one figure: the arrays of a layer, or all layers if each has one array only."""
    layers: dict[str, list[Distribution]] = {}
    for d in found:
        layers.setdefault(d.layer, []).append(d)
    if len(layers) > 1 and all(len(own) == 1 for own in layers.values()):
        everything = [dataclasses.replace(d, part=f"{d.layer}.{d.part}") for d in found]
        return [
            ("all layers" if len(found) <= MOST_ARRAYS else f"layers from {own[0].layer} on", own)
            for own in (everything[i : i + MOST_ARRAYS] for i in range(0, len(found), MOST_ARRAYS))
        ]
    return list(layers.items())


def histogram(values: Float32s, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the coordinates in each bin; those beyond the ends count to the outermost bins."""
    finite = np.clip(values[np.isfinite(values)].astype(np.float64), edges[0], edges[-1])
    counts, _ = np.histogram(finite, edges)
    return counts / max(1, values.size)


def outline(
    shares: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Steps around whole bins, each from its left edge on, from 0 and back to it: x and y, float64 [bins + 2]."""
    return np.append(edges[:1], edges), np.concatenate([[0.0], shares, [0.0]])


def _edges(d: Distribution) -> npt.NDArray[np.float64]:
    """Bins that hold all but the outermost thousandth."""
    values = d.evolved if d.initial is None else np.concatenate([d.evolved, d.initial])
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return np.linspace(-1.0, 1.0, 3)
    low, high = np.quantile(finite, [0.0005, 0.9995])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    bins = int(np.clip(np.sqrt(d.evolved.size), 8, BINS))
    return np.linspace(low, high, bins + 1)


def shown_name(part: str) -> str:
    """An array's name for people."""
    return NAMES.get(part, part)


def _figure(arm: Arm, color: int, layer: str, found: list[Distribution]) -> Figure:
    """The arrays of a layer side by side."""
    data: list[Trace] = []
    layout: dict[str, object] = {"hovermode": "x"}
    shown = found[:MOST_ARRAYS]
    for i, d in enumerate(shown):
        edges = _edges(d)
        margin = 0.02 * (edges[-1] - edges[0])
        suffix = "" if i == 0 else str(i + 1)
        place = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        step = {"shape": "hv", "width": 1.5}
        if d.initial is not None:
            shares = histogram(d.initial, edges)
            data.append(
                line("start", *outline(shares, edges), None, line=step, fill="tozeroy", **place)
                | {"meta": {"color": None, "fill": 0.25}}
            )
        shares = histogram(d.evolved, edges)
        data.append(
            line("evolved", *outline(shares, edges), color, line=step, fill="tozeroy", **place)
            | {"meta": {"color": color, "fill": 0.25}}
        )
        layout[f"xaxis{suffix}"] = axis(
            shown_name(d.part), nticks=5, range=numbers([edges[0] - margin, edges[-1] + margin])
        )
        layout[f"yaxis{suffix}"] = {"tickformat": ".0%", "nticks": 4, "rangemode": "tozero"}
    size = "" if arm.runs[0].parameters is None else _sizes(arm.runs[0], layer)
    described = "; ".join(
        f"{shown_name(d.part)}: mean {html.number(float(np.mean(d.evolved)))}, "
        f"standard deviation {html.number(float(np.std(d.evolved)))}"
        + ("" if d.initial is None else f" (at the start {html.number(float(np.std(d.initial)))})")
        for d in shown
    )
    layout["meta"] = {"panels": len(shown)}
    return Figure(
        f"parameters-{color}-{layer.replace(' ', '-')}",
        f"{arm.name}, {layer}{size}",
        f"Histograms of {len(shown)} arrays. {described}.",
        {"": View(data, layout)},
        _table(arm, found),
        f"Evolved: {checkpoints_of(arm)}. Share of the coordinates in each bin. Values beyond the ends of an axis are "
        "counted in the outermost bins.",
        (),
        [Key("evolved", "evolved", color), Key("start", "at the start (h₀)", None)],
        200,
    )


def _sizes(run: ReportedRun, layer: str) -> str:
    """The shape of a layer's arrays, if they all have one."""
    assert run.parameters is not None
    shapes = {
        s for name, s in run.parameters.layout.shapes.items() if name.rpartition(".")[0] == layer
    }
    if len(shapes) != 1:
        return ""
    shape = shapes.pop()
    return f": {shape[0]} inputs × {shape[1]} outputs" if len(shape) == 2 else ""


def _table(arm: Arm, found: Sequence[Distribution]) -> Table:
    rows: list[list[Cell]] = []
    for d in found:
        values = d.evolved.astype(np.float64)
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
        start = None if d.initial is None else float(d.initial.astype(np.float64).std())
        rows.append(
            [
                d.layer, shown_name(d.part), int(values.size), float(values.mean()), float(values.std()), start,
                low, median, high,
            ]
        )  # fmt: skip
    head = [
        "layer", "array", "coordinates", "mean", "std", "std at the start", "5 % quantile", "median", "95 % quantile",
    ]  # fmt: skip
    count = len(arm.runs)
    runs = f" of {count} runs" if count > 1 else ""
    return Table(head, rows, f"Arrays of h{runs}, {arm.name}", (0, 1), range(3, 9))


def _objective_table(arm: Arm) -> str:
    """The values that a function got at the checkpoint that is shown, of each run."""
    rows: list[list[Cell]] = []
    for run in arm.runs:
        if run.parameters is None:
            continue
        values = parameters_of(run.config, run.interface, run.parameters.h)
        for name, array in values.items():
            flat = array.ravel()
            for index in range(min(flat.size, MOST_VALUES)):
                place = (
                    ""
                    if array.ndim == 0
                    else str(list(map(int, np.unravel_index(index, array.shape))))
                )
                rows.append([f"{name}{place}", run.name, float(flat[index])])
            if flat.size > MOST_VALUES:
                rows.append([f"{name}: {flat.size - MOST_VALUES:,} more", run.name, None])
    if not rows:
        return ""
    return html.table(
        Table(
            ["parameter", "run", "value"],
            rows,
            f"Parameters of {checkpoints_of(arm)}, {arm.name}",
            (0, 1),
        )
    )
