"""Gymnasium environments of the esd project; they import nothing from ``esd``.

Gymnasium 1.0 gave up plugin entry points: environments are registered when their module is imported. ``esd`` does
that itself; elsewhere ``import esd_envs`` or ``gymnasium.make("esd_envs:esd/…")`` does.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from esd_envs import popgym_worlds
from esd_envs.last_action import LastActionAndReward
from esd_envs.zero_action import ZeroAction

__all__ = ["ChangedBody", "LastActionAndReward", "PooledCar", "ZeroAction"]

gymnasium.register(
    id="esd/DamagedAnt-v0",
    entry_point="esd_envs.damaged_ant:DamagedAnt",
    max_episode_steps=1000,
)
gymnasium.register(
    id="esd/FastCarRacing-v3",
    entry_point="esd_envs.fast_car_racing:FastCarRacing",
    max_episode_steps=1000,
    reward_threshold=900,
)
gymnasium.register(
    id="esd/HiddenCartPole-v0",
    entry_point="esd_envs.hidden:HiddenCartPole",
    max_episode_steps=500,
    reward_threshold=475,
)
gymnasium.register(
    id="esd/HiddenPendulum-v0",
    entry_point="esd_envs.hidden:HiddenPendulum",
    max_episode_steps=200,
)
# they end by themselves; a limit has to be there, or one would be asked for, and must not cut the longest
for _name, _module in (
    ("AssociativeRecall", "memory"),
    ("ColorCubes", "rewriting"),
    ("EndlessTMaze", "rewriting"),
    ("RepeatPrevious", "memory"),
    ("TMaze", "memory"),
):
    gymnasium.register(
        id=f"esd/{_name}-v0",
        entry_point=f"esd_envs.{_module}:{_name}",
        max_episode_steps=100_000_000,
    )
popgym_worlds.register()


def __getattr__(name: str) -> Any:
    """Import wrappers only when they are asked for: one needs MuJoCo, one compiles, which other environments don't."""
    if name == "ChangedBody":
        from esd_envs.changed_body import ChangedBody

        return ChangedBody
    if name == "PooledCar":
        from esd_envs.pooled_car import PooledCar

        return PooledCar
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
