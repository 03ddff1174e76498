"""``esd compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands import completion
from esd.commands.running import alone

if TYPE_CHECKING:
    from esd.evaluation.comparison import Comparison
    from esd.evaluation.groups import Group


def compare(
    groups: Annotated[
        list[str],
        typer.Argument(
            help="Groups of runs: name=PATTERN or name=FOLDER,FOLDER,…. Each group is compared with the first one.",
            metavar="NAME=RUNS…",
            autocompletion=completion.groups,
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare only this variant, or the variants that match a pattern. Can be repeated.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="Key of the evaluations to compare, if runs were evaluated with different settings. If it is "
            "needed, an error lists the keys.",
            metavar="KEY",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare groups of training runs by their evaluations (esd eval), on every variant.

    Each training run counts as one value: its mean over the test episodes. A two-sided permutation test over runs
    compares each group with the first one. The p-values are corrected for the number of tests (Holm).
    """

    def body() -> int:
        from esd.commands.console import print_error, print_json
        from esd.evaluation.comparison import compare as run_comparison

        found = run_comparison(groups, variant or [], conditions, print_error)
        if as_json:
            print_json(as_json_table(found))
        else:
            _print(found)
        return 0

    alone(body, as_json)


def as_json_table(found: Comparison) -> dict[str, Any]:
    """A comparison as ``--json`` prints it."""
    from esd.evaluation.significance import deviation

    return {
        "conditions": {
            "key": found.conditions.key,
            "options": found.conditions.options(),
            "described": found.conditions.described(found.groups[0].objective),
        },
        "groups": [
            {
                "name": group.name,
                "population": group.runs[0].population,
                "env_steps": group.env_steps,
                "runs": [
                    {
                        "run": str(run.path),
                        "seed": run.seed,
                        "generations": run.generations,
                        "evaluated_generation": run.generation[found.conditions],
                        "env_steps": run.env_steps,
                        "hours": run.hours,
                    }
                    for run in group.runs
                ],
            }
            for group in found.groups
        ],
        "variants": [
            {
                "name": row.name,
                "seen": row.seen,
                "groups": {
                    name: {"mean": float(m.mean()), "std": deviation(m), "runs": m.tolist()}
                    for name, m in row.means.items()
                },
                "tests": {
                    name: {
                        "difference": test.difference,
                        "p": test.p,
                        "p_holm": row.corrected[name],
                        "exact": test.exact,
                        "relabelings": test.relabelings,
                    }
                    for name, test in row.tests.items()
                },
            }
            for row in found.rows
        ],
        "notes": found.notes,
    }


def _print(found: Comparison) -> None:
    from esd.commands.console import print_table
    from esd.evaluation.significance import MOST_RELABELINGS, deviation

    objective = found.groups[0].objective
    digits = ".5g" if objective else ".2f"  # values of a function can be of any size
    print(f"evaluated: {found.conditions.described(objective)}")
    print()
    steps = "evaluations" if objective else "environment steps"
    head = ["group", "runs", "generations × population", steps, "wall time"]
    print_table([head, *map(_training, found.groups)], right=range(1, 5))
    print()
    first, *others = (group.name for group in found.groups)
    head = ["value" if objective else "variant", "", first]
    for name in others:
        head += [name, f"minus {first}", "p", "p (Holm)"]
    rows = [head]
    for row in found.rows:
        seen = {True: "seen", False: "unseen", None: "mixed"}[row.seen]
        shown = {n: f"{m.mean():{digits}} ± {deviation(m):{digits}}" for n, m in row.means.items()}
        cells = [row.name, "" if objective else seen, shown[first]]
        for name in others:
            test = row.tests[name]
            cells += [shown[name], f"{test.difference:+{digits}}"]
            cells += [f"{test.p:.2g}", f"{row.corrected[name]:.2g}"]
        rows.append(cells)
    print_table(rows, right=range(2, len(head)))
    print()
    tests = {test for row in found.rows for test in row.tests.values()}
    tried = ", ".join(
        f"all {n:,} relabelings"
        if exact
        else f"{MOST_RELABELINGS:,} random ones (fixed seed) of {n:.3g} relabelings"
        for n, exact in sorted({(test.relabelings, test.exact) for test in tests})
    )
    count = sum(len(row.tests) for row in found.rows)
    print(
        "mean ± standard deviation over training runs (of each run's mean over its test "
        f"{'evaluations' if objective else 'episodes'})"
    )
    print(
        f"p: permutation test over runs, two-sided, {tried}; Holm over the {count} tests of this table"
    )
    for note in found.notes:
        print(f"note: {note}")


def _training(group: Group) -> list[str]:
    """What a group was trained with."""
    from esd.report.overview import duration

    generations = sorted({run.generations for run in group.runs})
    span = " to ".join(str(n) for n in dict.fromkeys((generations[0], generations[-1])))
    steps = sorted(run.env_steps for run in group.runs)
    seconds = sorted(3600 * run.hours for run in group.runs)
    mean = sum(seconds) / len(seconds)
    return [
        group.name,
        str(len(group.runs)),
        f"{span} × {group.runs[0].population}",
        f"{group.env_steps:,.0f} ({steps[0]:,} to {steps[-1]:,})",
        f"{duration(mean)} ({duration(seconds[0])} to {duration(seconds[-1])})",
    ]
