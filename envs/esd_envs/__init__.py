"""Gymnasium environments of the esd project; they import nothing from ``esd``.

Gymnasium finds them through its plugin entry point, so ``gymnasium.make("esd/…")`` works wherever the distribution
is installed.
"""

from __future__ import annotations

import gymnasium


def register() -> None:
    """Register every environment; called by Gymnasium when it is imported."""
    gymnasium.register(
        id="esd/CartPoleHiddenSign-v0",
        entry_point="esd_envs.cartpole_hidden_sign:CartPoleHiddenSign",
        max_episode_steps=500,
    )
