"""A wrapper that remembers all actions, to be named in ``env.wrappers``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

ACTIONS: list[Any] = []


class Recorded(gymnasium.ActionWrapper[Any, Any, Any]):
    """Keeps a copy of every action in ``ACTIONS``."""

    def action(self, action: Any) -> Any:
        """The same action."""
        ACTIONS.append(np.copy(action) if isinstance(action, np.ndarray) else action)
        return action
