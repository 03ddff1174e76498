"""What the LSH attention of a Reformer found in a recorded episode, compared with full attention.

Nothing of attention is in a trace. It follows from what the policy saw and from h: the blocks are computed once more,
with the sequence form of attention (``attention.attend``), and measured against full attention (``attention.measure``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.attention.hashing import Hash, angular
from esd.attention.sequence import attend
from esd.attention.stream import Limits
from esd.attention.telemetry import Telemetry, measure
from esd.errors import UsageError
from esd.policies.reformer import ReformerSettings
from esd.report import html
from esd.report.figure import Cell, Figure, Key, Table, View, axis, band, dash_of, line
from esd.report.html import number
from esd.report.runs import ReportedRun, state_of
from esd.report.traces import Trace

Float32s = npt.NDArray[np.float32]

MOST_STEPS = 4_000  # full attention takes the square of them
BUCKETS_OF_STEPS = 150  # points of a curve
AGREES = 1e-2  # how far recomputed streams may be from recorded ones


@dataclass(frozen=True)
class Head:
    """One head of one block.

    Attributes:
        name: of it.
        telemetry: of all steps.
    """

    name: str
    telemetry: Telemetry


def figures(trace: Trace, runs: list[ReportedRun], index: int = 0) -> str:
    """The figures of a trace of a Reformer; nothing of another policy's, a remark where they can't be made.

    Args:
        trace: of an episode.
        runs: of the report; a run is known by the hash of a checkpoint's h.
        index: number of the trace in the page.
    """
    reformers = [run for run in runs if isinstance(run.config.policy.settings, ReformerSettings)]
    if not reformers:
        return ""
    run, h = next(
        (
            (run, h)
            for run in reformers
            if (h := state_of(run, trace.words.get("h_sha256", ""))) is not None
        ),
        (None, None),
    )
    if run is None or h is None:
        if trace.path.parent.resolve() not in {r.folder.place.resolve() for r in reformers}:
            return ""
        text = "LSH recall cannot be computed: no checkpoint has the h of this episode. Record the trace again."
        return html.notes([text])
    settings = run.config.policy.settings
    assert isinstance(settings, ReformerSettings)
    if settings.attention == "full":
        return html.notes(["This Reformer uses full attention, so there is no recall to measure."])
    if run.parameters is None or trace.words.get("rules", "evolved") != "evolved":
        return ""
    try:
        heads = measured(run.parameters.layout.unpack(np.ascontiguousarray(h)), settings, trace)
    except UsageError as error:
        return html.notes([f"LSH recall cannot be computed: {error}."])
    return html.figure(_figure(heads, trace, settings, index)) + html.figure(
        _occupancy(heads, settings, index)
    )


def measured(
    arrays: Mapping[str, Float32s], settings: ReformerSettings, trace: Trace
) -> list[Head]:
    """Compute the blocks of a Reformer over an episode, and compare every head with full attention.

    Args:
        arrays: of h, by name.
        settings: of the policy.
        trace: of the episode.

    Raises:
        UsageError: if what is computed is not what was recorded.
    """
    seen = trace.observations[:MOST_STEPS]
    now = np.concatenate([seen, _clock(len(seen), settings.clock)], axis=1)
    x1: Float32s = now @ arrays["embed"]
    x2 = x1
    limits = Limits(settings.cap, settings.capacity)
    heads = []
    for block in range(settings.blocks):
        own = {
            name.partition(".")[2]: a
            for name, a in arrays.items()
            if name.startswith(f"block{block}.")
        }
        read = _with_one(_normalized(x2) if settings.normalize else x2)
        queries, values = read @ own["query"], read[:, :-1] @ own["value"]
        keys = None if settings.keys == "shared" else read @ own["key"]
        writes = (read @ own["gate"])[:, 0] > 0.0 if settings.gate else None
        found = np.empty_like(values)
        for head in range(settings.heads):
            of = slice(head * settings.head_size, (head + 1) * settings.head_size)
            hashed = _hash(settings, block * settings.heads + head)
            # the sharpness is a factor on logits, and changes no bucket
            query = np.ascontiguousarray(queries[:, of] * np.exp(own["sharpness"][0, head]))
            key = None if keys is None else np.ascontiguousarray(keys[:, of])
            value = np.ascontiguousarray(values[:, of])
            found[:, of] = attend(hashed, query, value, key, limits, writes).out
            heads.append(
                Head(f"block {block}, head {head}", measure(hashed, query, key, limits, writes))
            )
        recalled: Float32s = found @ own["mix"]
        x1 = x1 + recalled
        if settings.units:
            read = _with_one(_normalized(x1) if settings.normalize else x1)
            hidden: Float32s = np.tanh(read @ own["feed1"])
            fed: Float32s = _with_one(hidden) @ own["feed2"]
            x2 = x2 + fed
    _check_same(np.concatenate([x1, x2], axis=1), trace)
    return heads


def _check_same(streams: Float32s, trace: Trace) -> None:
    """Compare with what the head of the policy read, which the trace has as its first activities."""
    recorded = trace.activities[0][: len(streams), :-1] if trace.activities else streams[:0]
    if recorded.shape != streams.shape:
        raise UsageError("the trace is from another network than that of the run")
    scale = float(np.abs(recorded).max(initial=1e-6))
    # a key whose bucket rounding decides may be found by one and not by the other: few steps may differ
    differing = (np.abs(streams - recorded).max(axis=1) > AGREES * scale).mean()
    if not differing < 0.05:
        raise UsageError(f"{differing:.0%} of the steps differ from the recording")


def _hash(settings: ReformerSettings, layer: int) -> Hash:
    return angular(settings.hash_seed, settings.head_size, settings.hashes, settings.buckets, layer)


def _clock(steps: int, periods: tuple[int, ...]) -> Float32s:
    """Sine and cosine of the time, float32 [steps, 2 · periods]."""
    angles = 2.0 * np.pi * np.arange(steps)[:, None] / np.array(periods, np.float64)
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(steps, -1).astype(np.float32)


def _with_one(x: Float32s) -> Float32s:
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)


def _normalized(x: Float32s) -> Float32s:
    squares = np.maximum((x * x).mean(axis=1, keepdims=True), np.float32(1e-12))
    result: Float32s = x / np.sqrt(squares)
    return result


def _in_stretches(
    values: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]:
    """The middle step of each stretch of the episode, and mean, lowest and highest value in it; NaN is left out."""
    pieces = np.array_split(np.arange(values.size), min(values.size, BUCKETS_OF_STEPS))
    rows = [
        (piece.mean(), own.mean(), own.min(), own.max())
        for piece in pieces
        if (own := values[piece][np.isfinite(values[piece])].astype(np.float64)).size
    ]
    table = np.array(rows, np.float64).reshape(-1, 4)
    return table[:, 0], [table[:, 1], table[:, 2], table[:, 3]]


def _figure(heads: list[Head], trace: Trace, settings: ReformerSettings, index: int) -> Figure:
    """Recall and keys found over the episode."""
    recall, found = [], []
    rows: list[list[Cell]] = []
    for i, head in enumerate(heads):
        x, (mean, low, high) = _in_stretches(head.telemetry.recalled)
        recall += band(head.name, x, low, high, i) if trace.steps > BUCKETS_OF_STEPS else []
        recall.append(line(head.name, x, mean, i, line={"dash": dash_of(i)}))
        steps, (count, _, _) = _in_stretches(head.telemetry.candidates.astype(np.float64))
        found.append(line(head.name, steps, count, i, line={"dash": dash_of(i)}))
        known = head.telemetry.recalled[np.isfinite(head.telemetry.recalled)].astype(np.float64)
        quantiles = np.quantile(known, [0.05, 0.5]).tolist() if known.size else [None, None]
        mean_recall = float(known.mean()) if known.size else None
        rows.append([head.name, mean_recall, *quantiles, float(head.telemetry.candidates.mean())])
    x_axis = axis("step of the episode", rangemode="tozero")
    views = {
        "0": View(
            recall,
            {
                "xaxis": x_axis,
                "yaxis": axis("recall", range=[-0.03, 1.05]),
                "hovermode": "x unified",
            },
        ),
        "1": View(
            found,
            {
                "xaxis": x_axis,
                "yaxis": axis("keys found", rangemode="tozero"),
                "hovermode": "x unified",
            },
        ),
    }
    shown = min(trace.steps, MOST_STEPS)
    caption = (
        "Recall is the share of full attention's weight on the keys that LSH finds; 1 means that nothing is lost. "
        f"{settings.hashes} hashes, {settings.buckets} buckets, cap {settings.cap}, capacity {settings.capacity:,}."
    )
    if shown < trace.steps:
        caption += f" The first {shown:,} of {trace.steps:,} steps are measured."
    words = "; ".join(f"{row[0]}: mean recall {html.cell(row[1], 3)}" for row in rows)
    return Figure(
        f"recall-{index}",
        "LSH recall",
        f"Line chart over the steps of the episode. {words}.",
        views,
        Table(["head", "mean recall", "5 % quantile", "median", "mean keys found"], rows, "Recall of each head"),
        caption,
        (("Show", ["recall", "keys found"]),),
        [Key(head.name, head.name, i, dash_of(i)) for i, head in enumerate(heads)],
        300,
    )  # fmt: skip


def _occupancy(heads: list[Head], settings: ReformerSettings, index: int) -> Figure:
    """How evenly keys fill the buckets: keys of the fullest buckets, sorted."""
    data = []
    rows: list[list[Cell]] = []
    for i, head in enumerate(heads):
        filled = np.sort(head.telemetry.occupancy, axis=1)[:, ::-1].mean(axis=0)
        rank = np.unique(np.linspace(0, filled.size - 1, min(filled.size, 200)).astype(int))
        data.append(
            line(head.name, rank + 1, filled[rank], i, line={"dash": dash_of(i), "shape": "hv"})
        )
        total = float(filled.sum()) or 1.0
        rows.append(
            [
                head.name,
                float(filled[0]),
                float(filled[0]) / total * 100.0,
                float((head.telemetry.occupancy == 0).sum(axis=1).mean()),
            ]
        )
    even = float(heads[0].telemetry.occupancy.sum(axis=1).mean()) / settings.buckets
    words = "; ".join(
        f"{row[0]}: {html.cell(row[2], 1)} % of the keys in the fullest bucket" for row in rows
    )
    return Figure(
        f"occupancy-{index}",
        "Keys in the buckets",
        f"Line chart of the keys in each bucket, fullest first. {words}.",
        {"": View(data, {
            "xaxis": axis("bucket, fullest first"), "yaxis": axis("keys (mean over rounds)", rangemode="tozero"),
            "hovermode": "x unified",
        })},
        Table(["head", "keys in the fullest bucket", "share in %", "empty buckets"], rows, "How keys fill the buckets"),
        f"Evenly filled buckets would have {number(even)} keys each. A steep curve means that keys have similar "
        "directions.",
        (),
        [Key(head.name, head.name, i, dash_of(i)) for i, head in enumerate(heads)],
        240,
    )  # fmt: skip
