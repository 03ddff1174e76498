"""Configs with the environments of ``odd``, and what is said when they are played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from esd.config.settings import Config
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.environments import Outcome
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from tests.helpers.configs import of_table, with_objects

ODD = "tests.helpers.odd"
SEEDS = [EpisodeSeeds(k, k) for k in range(3)]


def config_of(id: str = "Odd-v0", format: int = 2, **kwargs: Any) -> Config:
    """A config with an odd environment, whose keywords no TOML file could hold."""
    table = of_table(env={"id": f"{ODD}:{id}"}, format=format)
    return with_objects(table, **kwargs)


def played(config: Config, seeds: list[EpisodeSeeds] = SEEDS[:1]) -> Outcome:
    """Play episodes."""
    rollout = Rollout(config)
    try:
        return rollout.evaluate(rollout.policy.initial_parameters(0), seeds)
    finally:
        rollout.close()


def said(config: Config, seeds: list[EpisodeSeeds] = SEEDS[:1]) -> str:
    """What is said of an environment that can't be played, less its name."""
    with pytest.raises(BrokenEnvironmentError) as caught:
        played(config, seeds)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    assert text.startswith(f"env.id = '{ODD}:Odd-v0', ")
    return text.removeprefix(f"env.id = '{ODD}:Odd-v0', ")


def always(value: Any) -> Callable[[Any], Any]:
    """Change an answer to a value."""
    return lambda env: value


VECTOR = spaces.Box(-1.0, 1.0, (3,))
DISCRETE = spaces.Discrete(3)
SEVERAL = spaces.MultiDiscrete([3, 4], start=[0, 10])
BITS = spaces.MultiBinary(2)
BOTH = spaces.Dict({"a": VECTOR, "b": spaces.Tuple((DISCRETE, BITS))})
IMAGE = spaces.Box(0, 255, (4, 4, 3), np.uint8)
