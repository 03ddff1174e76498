"""A video of one test episode, with its return, its step and its body written into the picture."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

from esd.config.settings import EnvironmentConfig, Wrapper
from esd.episodes.checked import reward
from esd.episodes.making import close, make_environment, metadata_of
from esd.errors import EsdError, UsageError, missing_module, shortened
from esd.evaluation.film import Film, Format, what_is_wrong, writer_for
from esd.evaluation.test_episodes import (
    Subject,
    is_drawn_by_mujoco,
    make_rollout,
    played_seeds,
    rules_of,
)
from esd.evolution.state import RunState

RENDER_MODE = "rgb_array"
USUAL_RATE = 30  # frames per second where an environment doesn't say
FASTEST = 1000.0
CAMERAS = {"camera_id", "camera_name", "default_camera_config"}
# what draws without a screen: the library, and what MUJOCO_GL calls it
MUJOCO_LIBRARIES = (("libEGL.so.1", "egl"), ("libOSMesa.so.8", "osmesa"))
HOW_TO_RENDER = (
    "MuJoCo needs EGL or OSMesa (Debian: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 and "
    "MUJOCO_GL=osmesa)"
)


@dataclass(frozen=True)
class Filmed:
    """What a video shows.

    Attributes:
        frames: pictures in it.
        rate: pictures per second.
        size: its width and height in pixels.
        bytes: of the file.
        steps: of the episode.
        total: its return.
        whole: whether the video shows all of it.
        variant: the body, or the environment's id.
    """

    frames: int
    rate: float
    size: tuple[int, int]
    bytes: int
    steps: int
    total: float
    whole: bool
    variant: str

    def described(self) -> str:
        """In words."""
        end = "" if self.whole else f", which ends at step {self.steps:,}"
        return (
            f"{self.frames / self.rate:.1f} s of the first test episode on {self.variant}{end} (return "
            f"{self.total:.2f}): {self.size[0]}×{self.size[1]} pixels, {self.rate:g} frames per second, "
            f"{self.bytes:,} bytes"
        )


class Camera(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Renders an environment after its reset and after every step."""

    def __init__(self, env: gymnasium.Env[Any, Any], film: Film) -> None:
        """Film it."""
        super().__init__(env)
        self._film = film
        self._total, self._steps = 0.0, 0

    def reset(self, **options: Any) -> Any:
        """Begin the film."""
        answer = self.env.reset(**options)
        self._total, self._steps = 0.0, 0
        self._film.take(self.env.render, self._total, self._steps)
        return answer

    def step(self, action: Any) -> Any:
        """Act, and take a picture."""
        answer = self.env.step(action)
        if isinstance(answer, tuple) and len(answer) == 5:
            self._total += reward(answer[1], False)
            self._steps += 1
            self._film.take(self.env.render, self._total, self._steps)
        return answer


def check(path: Path) -> Format:
    """What writes a video, before anything is played.

    Args:
        path: of the video; its suffix says which format.

    Raises:
        UsageError: if there is no such format, the file can't be there; ``MissingPackageError`` if what writes it is
            not installed.
    """
    format = writer_for(path)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--video {path}: expected a file in a folder that exists")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--video {path}: no permission to write in {path.parent}")
    return format


def record(
    subject: Subject,
    state: RunState,
    seed: int,
    path: Path,
    seconds: float,
    rules: str = "evolved",
    about: Mapping[str, Any] | None = None,
) -> Filmed:
    """Play the first test episode of the first variant once more and film it.

    Args:
        subject: what is evaluated.
        state: of the run.
        seed: of the test stream.
        path: of the video, .mp4 or .gif.
        seconds: the video is no longer than this; the rest of the episode is played, but not shown.
        rules: see ``test_episodes.evaluate``.
        about: what the file shall say about the run (see ``video_facts``).

    Raises:
        UsageError: if the environment has no pictures, or this machine can't draw them.
        RunError: if the file can't be written.
    """
    format = check(path)
    variant = subject.variants[0]
    env = subject.config.env.of_variant(variant)
    env = dataclasses.replace(env, kwargs={**_followed(env), "render_mode": RENDER_MODE})
    name = subject.name(variant)
    with without_a_screen():
        rate = try_one_picture(env, subject.config.format, f"--video: env.id = {env.id!r}").rate
        with contextlib.closing(Film(format, path, rate, seconds, name)) as film:
            watching = Wrapper("esd.evaluation.video:Camera", {"film": film})
            env = dataclasses.replace(env, wrappers=(*env.wrappers, watching))
            config = dataclasses.replace(subject.config, env=env)
            made = make_rollout(dataclasses.replace(subject, config=config), state)
            with contextlib.closing(made) as rollout:
                rollout.load([(0, rules_of(rollout, state.h, rules, seed, 0))])
                outcome = rollout.play(
                    played_seeds(rollout, seed, 0, 0), stepwise=True, more_seconds=None
                )
            if film.problem is not None:
                raise film.problem
            if math.isnan(outcome.returns[0]):
                raise UsageError(
                    f"--video {path}: the episode on {name} failed ({shortened(outcome.failure, 300)})"
                )
            film.finish(
                {
                    **(about or {}), "env": env.id, "variant": name, "seed": seed, "rules": rules,
                    "return": outcome.returns[0], "steps": outcome.steps, "whole": film.whole,
                }
            )  # fmt: skip
    return Filmed(
        film.frames, film.rate, film.size, path.stat().st_size, outcome.steps, outcome.returns[0],
        film.whole, name,
    )  # fmt: skip


def _followed(env: EnvironmentConfig) -> dict[str, Any]:
    """Keyword arguments with MuJoCo's camera that follows the body, unless they name one.

    Where nothing is named, Gymnasium 1.4 takes a camera that stays where it is, and the body runs out of the picture.
    A model without such a camera is shown as before.
    """
    if not is_drawn_by_mujoco(env.id) or CAMERAS & {*env.kwargs}:
        return env.kwargs
    return {**env.kwargs, "camera_name": "track"}


@contextlib.contextmanager
def without_a_screen() -> Iterator[None]:
    """Let MuJoCo and pygame draw into memory where there is no screen; what the user has set stays."""
    changes: dict[str, str] = {}
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        changes = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
        for library, backend in MUJOCO_LIBRARIES:
            with contextlib.suppress(OSError):
                ctypes.CDLL(library)
                changes["MUJOCO_GL"] = backend
                break
    own = {name: value for name, value in changes.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@dataclass(frozen=True)
class OnePicture:
    """What an environment draws.

    Attributes:
        size: width and height in pixels.
        rate: its frames per second.
    """

    size: tuple[int, int]
    rate: float


def try_one_picture(env: EnvironmentConfig, format: int, who: str) -> OnePicture:
    """Draw one picture, to find out whether that is possible.

    Args:
        env: with a ``render_mode`` among its keyword arguments.
        format: of the run's settings.
        who: begins an error.

    Raises:
        UsageError: if the environment has no pictures, or this machine can't draw them.
    """
    modes = declared_modes(env, format)
    if RENDER_MODE not in modes:
        known = f"its render modes are {shortened(', '.join(modes))}" if modes else "none"
        raise UsageError(
            f"{who} can't be rendered to pictures: it has no render mode {RENDER_MODE!r} ({known}). Leave out --video"
        )
    made = make_environment(env, format)
    by_mujoco = is_drawn_by_mujoco(env.id) or "mujoco_renderer" in getattr(
        made.unwrapped, "__dict__", {}
    )
    try:
        made.reset(seed=0)
        picture: Any = made.render()
    except EsdError:
        raise
    except Exception as error:
        if missing_module(error) == "pygame":
            raise UsageError(
                f"{who} can't be rendered, because pygame is not installed; install it with pip install "
                "'gymnasium[classic-control]'"
            ) from error
        text = shortened(f"{type(error).__name__}: {error}", 300)
        how = f". {HOW_TO_RENDER}" if by_mujoco else ""
        raise UsageError(f"{who} can't be rendered on this machine ({text}){how}") from error
    finally:
        close(made, f"env.id = {env.id!r}")
    if wrong := what_is_wrong(picture):
        raise UsageError(f"{who}: {wrong}")
    rate = metadata_of(made.unwrapped).get("render_fps")
    usable = isinstance(rate, int | float) and math.isfinite(rate) and 0 < rate <= FASTEST
    height, width = picture.shape[:2]
    return OnePicture(
        (width, height), float(rate) if usable and rate is not None else float(USUAL_RATE)
    )


def declared_modes(env: EnvironmentConfig, format: int) -> list[str]:
    """The render modes that an environment says to have, whether or not it was asked for one."""
    plain = {key: value for key, value in env.kwargs.items() if key != "render_mode"}
    made = make_environment(dataclasses.replace(env, kwargs=plain), format)
    modes = metadata_of(made.unwrapped).get("render_modes")
    close(made, f"env.id = {env.id!r}")
    return [str(mode) for mode in modes] if isinstance(modes, list | tuple | set) else []
