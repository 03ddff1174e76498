"""Groups of training runs compared by what ``esd eval`` stored: the unit is the run, not the episode.

A group is one way to train (an arm), as ``groups`` reads it. On every variant each group is tested against the
first one by a permutation of the runs, with Holm's correction over all tests of the table.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evaluation.groups import STARTED_FROM, Group, TrainedRun, read_groups
from esd.evaluation.significance import PermutationTest, holm, permutation_test
from esd.evaluation.stored import Conditions
from esd.evaluation.variant_names import named
from esd.run.folder import Warn

LEVEL = 0.05
SHOWS_MORE = "esd_envs:LastActionAndReward"
UNLIKE = 0.1  # groups whose environment steps differ by a larger share get a note


@dataclass(frozen=True)
class Row:
    """One variant of the table.

    Attributes:
        name: of the variant.
        seen: whether training used it; None if some runs did and others didn't.
        means: by group, the runs' mean returns, float64 [runs].
        tests: by group but the first, against the first.
        corrected: their p-values after Holm's correction over the whole table.
    """

    name: str
    seen: bool | None
    means: dict[str, npt.NDArray[np.float64]]
    tests: dict[str, PermutationTest]
    corrected: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """The table.

    Attributes:
        groups: as given; the others are compared with the first.
        conditions: of all evaluations.
        rows: one per variant.
        notes: what a reader has to know.
    """

    groups: list[Group]
    conditions: Conditions
    rows: list[Row]
    notes: list[str]


def compare(
    words: Sequence[str],
    variants: Sequence[str] = (),
    key: str | None = None,
    warn: Warn = lambda text: None,
) -> Comparison:
    """Compare groups of runs.

    Args:
        words: ``name=pattern,pattern…`` each, of run folders.
        variants: names or patterns; none for all that the runs were evaluated on.
        key: of the conditions to compare under, where runs were evaluated in several ways; see ``Conditions.key``.
        warn: is called with a line about every damaged file that is ignored.

    Raises:
        UsageError: if there is nothing to compare, or what there is can't be compared fairly.
    """
    return compare_groups(read_groups(words, warn), variants, key)


def compare_groups(
    groups: list[Group], variants: Sequence[str] = (), key: str | None = None
) -> Comparison:
    """Compare groups that were read and found to be comparable (``groups.check_groups``); see ``compare``.

    Raises:
        UsageError: if they can't be compared fairly.
    """
    conditions = _shared_conditions(groups, key)
    _check_newest(groups, conditions)
    names = _shared_variants(groups, conditions, variants)
    rows = []
    for name in names:
        cells = {g.name: [r.found[conditions][name] for r in g.runs] for g in groups}
        seen = {cell["seen"] for group in cells.values() for cell in group}
        means = {
            group: np.array([_mean(run, name, conditions) for run in g.runs])
            for group, g in zip(cells, groups, strict=True)
        }
        first = groups[0].name
        tests = {
            group: permutation_test(means[first].tolist(), own.tolist())
            for group, own in means.items()
            if group != first
        }
        rows.append(Row(name, seen.pop() if len(seen) == 1 else None, means, tests, {}))
    corrected = iter(holm([test.p for row in rows for test in row.tests.values()]))
    rows = [
        dataclasses.replace(row, corrected={group: next(corrected) for group in row.tests})
        for row in rows
    ]
    return Comparison(groups, conditions, rows, list(_notes(groups, rows)))


def _shared_conditions(groups: list[Group], key: str | None) -> Conditions:
    """The one way in which all runs were evaluated, or the plain one among several."""
    runs = [run for group in groups for run in group.runs]
    missing = [run for run in runs if not run.found]
    if missing:
        raise UsageError(f"{_paths(missing)}: not evaluated; run {_command(missing[0])}")
    known = {conditions for run in runs for conditions in run.found}
    shared = set.intersection(*({*run.found} for run in runs))
    if key is not None:
        by_key = {conditions.key: conditions for conditions in known}
        if key not in by_key:
            raise UsageError(
                f"--conditions {key}: no run was evaluated in this way; known evaluations are {_ways(known)}"
            )
        chosen = by_key[key]
        if chosen not in shared:
            raise _lacking(runs, chosen)
        return chosen
    plain = {conditions for conditions in shared if conditions.plain}
    for candidates in (plain, shared):
        if len(candidates) == 1:
            return candidates.pop()
    if shared:
        raise UsageError(
            f"the runs were evaluated with several settings; choose one with --conditions: {_ways(shared)}"
        )
    counts = Counter(conditions for run in runs for conditions in run.found)
    raise _lacking(runs, max(counts, key=lambda c: (c.plain, counts[c], c.key)))


def _lacking(runs: list[TrainedRun], conditions: Conditions) -> UsageError:
    """That some runs were not evaluated under conditions."""
    lacking = [run for run in runs if conditions not in run.found]
    return UsageError(
        f"not all runs were evaluated in the same way: {_paths(lacking)} not with {conditions.described()}; "
        f"run {_command(lacking[0], conditions)}"
    )


def _check_newest(groups: list[Group], conditions: Conditions) -> None:
    """Refuse an evaluation of an h that training has left behind since."""
    for run in (run for group in groups for run in group.runs):
        now = run.best if conditions.checkpoint == "best" else run.generations
        if now is not None and run.generation[conditions] < now:
            raise UsageError(
                f"{run.path}: was evaluated at generation {run.generation[conditions]}, but its "
                f"{conditions.checkpoint} checkpoint is now of generation {now}; run {_command(run, conditions)}"
            )


def _ways(ways: set[Conditions]) -> str:
    return "; ".join(f"{way.key} ({way.described()})" for way in sorted(ways, key=lambda w: w.key))


def _paths(runs: list[TrainedRun]) -> str:
    shown = ", ".join(str(run.path) for run in runs[:3])
    return shown + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")


def _command(run: TrainedRun, conditions: Conditions | None = None, variant: str = "") -> str:
    """How to get an evaluation that is missing."""
    words = ["esd", "eval", str(run.path)]
    if conditions is not None:
        words += conditions.options()
    if variant:
        words += ["--variant", variant]
    return shlex.join(words)


def _shared_variants(
    groups: list[Group], conditions: Conditions, wanted: Sequence[str]
) -> list[str]:
    """The variants of the table, each the same world in all runs."""
    runs = [run for group in groups for run in group.runs]
    known = dict.fromkeys(name for run in runs for name in run.found[conditions])
    names = named(wanted, known, "no run was evaluated on it") or list(known)
    for name in names:
        lacking = [run for run in runs if name not in run.found[conditions]]
        if lacking and "objective.function" in lacking[0].settings:
            raise UsageError(
                f"{_paths(lacking)}: has another objective.function than {name!r}; values of different functions can't "
                "be compared"
            )
        if lacking:
            raise UsageError(
                f"{_paths(lacking)}: not evaluated on variant {name!r}; run "
                f"{_command(lacking[0], conditions, name)}, or choose other variants with --variant"
            )
        first, *others = ((run.path, run.found[conditions][name]["world"]) for run in runs)
        for path, world in others:
            check_same_world(name, first, (path, world))
    return names


def check_same_world(
    variant: str, one: tuple[object, dict[str, Any]], other: tuple[object, dict[str, Any]]
) -> None:
    """Refuse two worlds that differ; whoever is only shown more of one by a wrapper is in the same one.

    Args:
        variant: the name of both.
        one: whose it is, and its description.
        other: the same of the other.

    Raises:
        UsageError: naming what differs.
    """
    here, there = _world(one[1]), _world(other[1])
    for key in dict.fromkeys([*here, *there]):
        if here.get(key) != there.get(key):
            raise UsageError(
                f"variant {variant!r}: {key} is {here.get(key)!r} in {one[0]} but {there.get(key)!r} in {other[0]}: "
                "returns in different environments can't be compared"
            )


def _world(described: dict[str, Any]) -> dict[str, Any]:
    """A world without what only shows more of it to a policy."""
    if "wrappers" not in described:
        return described
    wrappers = [w for w in described["wrappers"] if w["id"] != SHOWS_MORE]
    return {**described, "wrappers": wrappers}


def _mean(run: TrainedRun, variant: str, conditions: Conditions) -> float:
    mean = run.found[conditions][variant]["mean"]
    if mean is None or not math.isfinite(mean):
        raise UsageError(f"{run.path}: an episode on variant {variant!r} has no finite return")
    return float(mean)


def _notes(groups: list[Group], rows: list[Row]) -> Iterator[str]:
    """What a reader has to know before believing the table."""
    first, *others = groups
    tests = sum(len(row.tests) for row in rows)
    for group in others:
        test = rows[0].tests[group.name]
        pair = f"{group.name} against {first.name}, {len(group.runs)} and {len(first.runs)} runs"
        if test.smallest_p >= LEVEL:
            yield f"{pair}: p can't be below {test.smallest_p:.3g} with so few runs"
        elif test.smallest_p * tests >= LEVEL:
            yield (
                f"{pair}: after Holm's correction for {tests} tests, p can't be below {LEVEL}; use more runs or "
                "fewer variants"
            )
        here, there = group.env_steps, first.env_steps
        if there and abs(here / there - 1.0) > UNLIKE:
            steps = "evaluations" if first.objective else "environment steps"
            yield (
                f"{group.name} was trained with {here / there:.2f} × the {steps} of {first.name}: a fair comparison "
                "uses the same number for every group"
            )
        mine, its = group.runs[0].settings, first.runs[0].settings
        differing = sorted(k for k in {*mine, *its} if mine.get(k) != its.get(k))
        if mine.get("policy.kind") != its.get(
            "policy.kind"
        ):  # what only one kind has is no difference of its own
            differing = [k for k in differing if k == STARTED_FROM or (k in mine and k in its)]
        yield f"{group.name} differs from {first.name} in {', '.join(differing) or 'no setting'}"
    for row in rows:
        if row.seen is None:
            yield f"variant {row.name!r} was used for training in some of the runs and not in others"
    for group in groups:
        generations = {run.generations for run in group.runs}
        if len(generations) > 1:
            yield f"{group.name}: runs were trained for {min(generations)} to {max(generations)} generations"
