"""What ``policy.convolutions`` can see, by the observation space: shape and range."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleObservation

from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.environments import Environments
from esd.episodes.pictures import check_pictures
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from tests.helpers.configs import with_objects
from tests.helpers.user_code import Spaces


def box(*shape: int, low: float = 0, high: float = 255, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


def config(space: spaces.Space[Any], **more: Any) -> Config:
    table = {
        "env": {"id": "tests.helpers.user_code:Spaces-v0", **more.pop("env", {})},
        "policy": {"kind": "static", "convolutions": True, "hidden": [4]},
        **more,
    }
    found = parse(table, "test")
    return with_objects(
        found, observation_space=space, action_space=spaces.Box(-1, 1, (2,), np.float32)
    )


WRONG = {
    "channels first": (box(3, 84, 84), "of shape (3, 84, 84), from 0 to 255", "np.moveaxis(observation, 0, -1)"),
    "not square": (box(42, 168, 3), "of shape (42, 168, 3)", "ResizeObservation of shape (84, 84)"),
    "small": (box(64, 64, 3), "of shape (64, 64, 3)", "ResizeObservation of shape (84, 84)"),
    "floats of 0 to 1": (box(84, 84, 3, high=1, dtype=np.float32), "from 0 to 1,", "RescaleObservation"),
    "-1 to 1": (box(84, 84, 3, low=-1, high=1, dtype=np.float32), "from -1 to 1,", "RescaleObservation"),
    "half as bright": (box(84, 84, 3, high=127), "from 0 to 127,", "RescaleObservation"),
    "no bounds": (
        box(84, 84, 3, low=-np.inf, high=np.inf, dtype=np.float32), "from -inf to inf", "declare the bounds 0 and 255",
    ),
    "gray": (box(84, 252), "of shape (84, 252)", "remove gymnasium.wrappers:GrayscaleObservation"),
    "gray with an axis": (box(84, 252, 1), "of shape (84, 252, 1)", "GrayscaleObservation"),
    "RGBA": (box(84, 63, 4), "of shape (84, 63, 4)", "channels"),
    "stacked": (box(4, 42, 42, 3), "of shape (4, 42, 42, 3)", "remove the wrapper that stacks frames"),
    "a vector": (box(3 * 84**2), "of shape (21168,)", "policy.convolutions = false"),
    "a table": (spaces.Dict({"picture": box(84, 84, 3)}), "of the space Dict", "policy.convolutions = false"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_other_pictures_are_refused_with_what_helps(name: str) -> None:
    space, what, advice = WRONG[name]
    with pytest.raises(UsageError) as caught:
        Rollout(config(space))
    text = str(caught.value)
    assert what in text
    assert advice in text
    assert "tests.helpers.user_code:Spaces-v0" in text
    assert len(text) <= 1000


@pytest.mark.parametrize("name", ["channels first", "not square", "floats of 0 to 1"])
def test_a_run_of_the_first_format_goes_on_with_them(name: str) -> None:
    Rollout(config(WRONG[name][0], format=1)).close()


@pytest.mark.parametrize(
    "space", [box(84, 84, 3), box(96, 96, 3), box(84, 84, 3, dtype=np.float32)]
)
def test_square_rgb_pictures_of_0_to_255_are_taken(space: spaces.Box) -> None:
    Rollout(config(space)).close()


def test_pictures_are_not_normalized_a_second_time() -> None:
    with pytest.raises(UsageError, match=r"set env.normalize_observations = false"):
        Rollout(config(box(84, 84, 3), env={"normalize_observations": True}))


def test_without_convolutions_any_shape_is_taken() -> None:
    found = parse({"policy": {"kind": "static"}}, "test")
    check_pictures(found, [("any", box(3, 84, 84))])
    check_pictures(found, Environments(found.env).observation_spaces())


def test_the_wrappers_that_are_named_help() -> None:
    """They exist, take these arguments, and what they give is accepted."""
    action = spaces.Box(-1, 1, (2,), np.float32)
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
    section = page[page.index("### Pictures") :]
    own: dict[str, Any] = {}
    exec(section.split("```python\n")[1].split("```")[0], own)
    moved = own["ChannelsLast"](Spaces(box(3, 90, 90), action))
    scaled = RescaleObservation(
        Spaces(box(84, 84, 3, high=1, dtype=np.float32), action),
        min_obs=np.float32(0.0),
        max_obs=np.float32(255.0),
    )
    made: list[gymnasium.Env[Any, Any]] = [moved, scaled]
    with contextlib.suppress(gymnasium.error.DependencyNotInstalled):  # OpenCV
        made.append(own["Resized"](Spaces(box(42, 168, 3), action)))
    for environment in made:
        check_pictures(config(box(84, 84, 3)), [("any", environment.observation_space)])
        seen, _ = environment.reset(seed=0)
        assert environment.observation_space.contains(seen)
