"""Results of runs that were read on another day, or on another machine, joined with those of new runs.

The groups are the same, and so are their settings and the variants' worlds; new seeds are added, and a seed that is
there already is replaced. The comparison is made anew over all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esd.commands.compare import as_json_table
from esd.errors import UsageError
from esd.evaluation.comparison import Comparison, compare_groups
from esd.evaluation.groups import Group, TrainedRun, check_groups, newest_by_conditions

Kept = dict[str, Any]


def what_runs_share(comparison: Comparison) -> Kept:
    """What has to be the same in runs that are added later: settings of each group, and each variant's world."""
    first = comparison.groups[0].runs[0].found[comparison.conditions]
    return {
        "settings": {group.name: group.runs[0].settings for group in comparison.groups},
        "worlds": {row.name: first[row.name]["world"] for row in comparison.rows},
    }


def joined(earlier: Kept, new: Kept) -> Kept:
    """Both results as one.

    Raises:
        UsageError: if they are not results of the same groups, or a comparison of all runs would not be fair.
    """
    for key in ("settings", "worlds"):
        if earlier.get(key) is None or new.get(key) is None:
            raise UsageError(f"--add: the {key} of the runs were not kept, so none can be added")
        if {*earlier[key]} != {*new[key]}:
            raise UsageError(
                f"--add: other {key}: {[*earlier[key]]} were kept, {[*new[key]]} are new"
            )
    arms = {name: _by_seed(runs, new["arms"][name]) for name, runs in earlier["arms"].items()}
    groups = [
        Group(
            name,
            [
                _trained(name, run, source["settings"][name], source["worlds"])
                for run in runs
                for source in (new if run in new["arms"][name] else earlier,)
            ],
        )
        for name, runs in arms.items()
    ]
    check_groups(groups)
    conditions = new["comparison"]["conditions"]["key"]
    found = compare_groups(groups, list(new["worlds"]), conditions)
    trials = {**earlier["trials"], **new["trials"]}
    table = as_json_table(found)
    return {**new, **what_runs_share(found), "arms": arms, "comparison": table, "trials": trials}


def _by_seed(earlier: list[Kept], new: list[Kept]) -> list[Kept]:
    """All runs in the order of their seeds; of two with the same seed the new one."""
    seeds = {run["seed"]: run for run in [*earlier, *new]}
    return [seeds[seed] for seed in sorted(seeds)]


def _trained(group: str, run: Kept, settings: Kept, worlds: Kept) -> TrainedRun:
    """A kept run as ``esd compare`` sees it."""
    found, newest = newest_by_conditions(run["evaluations"])
    for variants in found.values():
        for name, variant in variants.items():
            variants[name] = {**variant, "world": worlds.get(name, {})}
    return TrainedRun(
        path=Path(group, f"seed {run['seed']}"),
        seed=run["seed"],
        population=run["population"],
        settings=settings,
        generations=run["generations"],
        env_steps=run["env_steps"],
        hours=run["seconds"] / 3600.0,
        best=None,
        found=found,
        generation=newest,
    )
