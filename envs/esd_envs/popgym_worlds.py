"""popgym's environments (Morad et al. 2023, "POPGym: Benchmarking Partially Observable Reinforcement Learning").

They are registered when popgym is imported; without popgym, making one of them says what to install.
"""

from __future__ import annotations

from typing import Any

import gymnasium

# all their episodes end by themselves (the longest after 831 steps), but nothing in the registry says so
MAX_EPISODE_STEPS = 1000
NAMES = (
    "Autoencode", "Battleship", "Concentration", "CountRecall", "HigherLower", "MineSweeper", "MultiarmedBandit",
    "NoisyPositionOnlyCartPole", "NoisyPositionOnlyPendulum", "PositionOnlyCartPole", "PositionOnlyPendulum",
    "RepeatFirst", "RepeatPrevious", "VelocityOnlyCartpole",
)  # fmt: skip
LEVELS = ("Easy", "Medium", "Hard")
IDS = tuple(f"popgym-{name}{level}-v0" for name in NAMES for level in LEVELS)


def register() -> None:
    """Make popgym's ids known, each with a step limit."""
    try:
        import popgym  # noqa: F401
    except Exception as error:  # a broken installation shows as whatever it comes upon
        reason, cause = " ".join(str(error).split()), error

        def missing(**kwargs: Any) -> Any:
            raise gymnasium.error.DependencyNotInstalled(
                f"popgym can't be imported ({reason}); pip install 'esd-mpi[popgym]'"
            ) from cause

        for id in IDS:
            gymnasium.register(id, entry_point=missing)
        return
    for id, spec in gymnasium.registry.items():
        if id.startswith("popgym-") and spec.max_episode_steps is None:
            spec.max_episode_steps = MAX_EPISODE_STEPS
