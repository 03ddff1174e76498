"""Results of runs that were read on another day, or on another machine, joined with those of new runs.

A group's settings and the variants' worlds are the same. New seeds and new groups are added, and a seed that is there
already is replaced. The comparison is made anew over all of them, if they can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esd.commands.compare import as_json_table
from esd.errors import UsageError
from esd.evaluation.comparison import check_same_world, compare_groups
from esd.evaluation.groups import (
    Group,
    TrainedRun,
    check_alike,
    newest_by_conditions,
    trained_run,
)
from esd.run import metrics
from esd.run.folder import RunFolder

Kept = dict[str, Any]


def what_runs_share(groups: dict[str, list[Path]]) -> Kept:
    """What has to be the same in runs that are added later: settings of each group, and each variant's world."""
    settings, worlds = {}, dict[str, Any]()
    for name, paths in groups.items():
        folder = RunFolder(paths[0])
        lines = metrics.read(folder.metrics_file)
        run = trained_run(folder, folder.config(), lines, lambda text: None)
        settings[name] = run.settings
        for conditions, variants in run.found.items():
            if conditions.plain:
                worlds |= {own["name"]: own["world"] for own in variants.values()}
    return {"settings": settings, "worlds": worlds}


def comparable(groups: Mapping[str, Sequence[Any]]) -> bool:
    """Whether there are several groups, of several runs each."""
    return len(groups) > 1 and min(map(len, groups.values())) > 1


def joined(earlier: Kept, new: Kept) -> Kept:
    """Both results as one.

    Raises:
        UsageError: if they were evaluated on other variants, or a comparison of all runs would not be fair.
    """
    if "settings" not in earlier:
        raise UsageError("--add: the settings of the runs were not kept, so none can be added")
    if not {*earlier["worlds"]} <= {*new["worlds"]}:
        raise UsageError(
            f"--add: other worlds: {[*earlier['worlds']]} were kept, {[*new['worlds']]} are new"
        )
    for name, world in earlier["worlds"].items():
        check_same_world(name, ("the kept results", world), ("the new runs", new["worlds"][name]))
    arms, groups = {}, []
    for name in dict.fromkeys([*earlier["arms"], *new["arms"]]):
        before, added = (source["arms"].get(name, []) for source in (earlier, new))
        arms[name] = _by_seed(before, added)
        runs = [(run, new if run in added else earlier) for run in arms[name]]
        groups.append(
            Group(
                name,
                [_trained(name, run, of["settings"][name], of["worlds"]) for run, of in runs],
            )
        )
    for group in groups:
        check_alike(group)
    found = None
    if comparable(arms):
        compared = earlier["comparison"]
        names = [v["name"] for v in compared["variants"]] if compared else [*earlier["worlds"]]
        found = compare_groups(groups, names, compared and compared["conditions"]["key"])
    return {
        **new,
        "worlds": earlier["worlds"],
        "settings": {**earlier["settings"], **new["settings"]},
        "arms": arms,
        "comparison": as_json_table(found) if found else None,
        "trials": {**earlier["trials"], **new["trials"]},
    }


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
