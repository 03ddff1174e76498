"""Small configs for tests: every shipped preset, cut down in time."""

from __future__ import annotations

import dataclasses
from typing import Any

from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse

# a quick version is the same world and policy for fewer steps; “medium” and “hard” are “easy” with other keywords, and
# pay nothing before step 31 and 63; the bodies of “cheetah-change” are those of “cheetah-bodies”, later, and those of
# “cheetah-reversed” differ from them in numbers alone
OBJECTIVES = [name for name in experiment_names() if "objective" in read_experiment(name)[1]]
PRESETS = [
    name
    for name in experiment_names()
    if name not in OBJECTIVES
    and ("-quick" not in name or name.replace("-quick", "") not in experiment_names())
    and not name.startswith(
        ("repeat-previous-medium", "repeat-previous-hard", "cheetah-change", "cheetah-reversed")
    )
]
# a twin is the same world with another policy; two of them stand for all where each costs seconds on many ranks
TWINS = ("-static", "-full", "-gru", "-hebbian")
WORLDS = [
    name
    for name in PRESETS
    if not name.endswith(TWINS) or name in ("cartpole-static", "t-maze-gru")
]
SMALL = (
    "population=14",
    "generations=5",
    "run.center_every=2",
    "run.center_episodes=3",
    "run.checkpoint_every=2",
)

# policies with a memory of the episode, as small as they can be with everything in them
REMEMBERING: dict[str, dict[str, Any]] = {
    "reformer": {
        "kind": "reformer",
        "width": 5,
        "blocks": 2,
        "heads": 2,
        "head_size": 3,
        "units": 4,
        "clock": [4, 10],
        "hashes": 2,
        "buckets": 6,
        "cap": 4,
        "capacity": 12,
        "gate": True,
        "keys": "shared",
        "normalize": True,
    },
    "reformer that learns": {"kind": "reformer", "width": 5, "head_size": 3, "head": "ABCD_lr"},
    # in a clock whose period divides the steps of all episodes, one that goes on would not be noticed
    "gru": {"kind": "gru", "units": 5, "clock": [7]},
}
RECALL = {"id": "esd/AssociativeRecall-v0", "kwargs": {"pairs": 5, "cue_size": 3}}


def small(experiment: str = "cartpole", *settings: str, max_steps: int = 60) -> Config:
    """A preset with 14 members, 5 generations and short episodes."""
    _, table = read_experiment(experiment)
    table = apply_settings(table, [*SMALL, f"env.max_steps={max_steps}", *settings])
    return parse(table, experiment)


def remembering(policy: str, *settings: str) -> Config:
    """One of ``REMEMBERING`` in a compiled world of memory, with 14 members and 5 generations."""
    table = {"env": {**RECALL, "episodes_per_member": 2}, "policy": REMEMBERING[policy]}
    return parse(apply_settings(table, [*SMALL, *settings]), policy)


def objective(function: str = "sphere", *settings: str, **parameters: dict[str, Any]) -> Config:
    """A function to be minimized, with 14 members and 5 generations; of four numbers unless parameters are given."""
    parameters = parameters or {"x": {"shape": [4], "initial": 0.5}}
    table = {"objective": {"function": function, "direction": "minimize", "parameters": parameters}}
    return parse(apply_settings(table, [*SMALL, *settings]), function)


def of_table(**table: Any) -> Config:
    """A config from tables."""
    return parse({"policy": {"hidden": [6]}, **table}, "test")


def with_objects(config: Config, **kwargs: Any) -> Config:
    """The config with keywords of the environment that no TOML file can hold."""
    return dataclasses.replace(config, env=dataclasses.replace(config.env, kwargs=kwargs))
