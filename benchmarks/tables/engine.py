"""Tables of the parts that a generation is made of: noise, updates, networks, compiled environments, lock-step."""

from __future__ import annotations

from benchmarks.tables.markdown import Result, compared, number, source, table


def machine(result: Result) -> str:
    """What the figures were measured on."""
    found = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['cores']} cores of an {found['processor']}, {found['system']}, Python "
        f"{found['python']}; {packages}."
    )


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
