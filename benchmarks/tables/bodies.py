"""Tables of the damaged and changed bodies."""

from __future__ import annotations

from benchmarks.tables.markdown import Result, number, source, table


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
