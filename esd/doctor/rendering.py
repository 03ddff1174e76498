"""Can pictures be drawn here and made into a video? Training needs none of it; ``esd eval --video`` does."""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from esd.config.another_python import with_esd
from esd.config.settings import EnvironmentConfig
from esd.config.tables import parse, to_table
from esd.doctor.machine import Check, note, ok
from esd.errors import EsdError, UsageError, shortened

# what writes videos; Pillow also writes the line at the top of each picture
WRITERS = {
    "PIL": ("Pillow", "for .gif and .mp4"),
    "imageio_ffmpeg": ("imageio-ffmpeg", "for .mp4"),
}
DRAWING_SECONDS = 60.0  # in a process of its own


def rendering() -> Check:
    """Which libraries draw environments, and which one writes videos."""
    found, missing = [], []
    if _has("pygame"):
        found.append("SDL (pygame)")
    else:
        missing.append(
            "pygame, for classic control and Box2D: pip install 'gymnasium[classic-control]'"
        )
    if _has("mujoco"):
        _mujoco(found, missing)
    for module, (package, what) in WRITERS.items():
        if _has(module):
            found.append(package)
        else:
            missing.append(f"{package}, {what}: pip install 'esd-mpi[video]'")
    have = ", ".join(found) or "nothing"
    if missing:
        return note("rendering", f"{have}. esd eval --video also needs: {'; '.join(missing)}")
    return ok("rendering", have)


def _mujoco(found: list[str], missing: list[str]) -> None:
    """MuJoCo draws by EGL or OSMesa where there is no screen, by GLFW where there is one."""
    if sys.platform != "linux":
        return
    offscreen = {
        "egl": ctypes.util.find_library("EGL"),
        "osmesa": ctypes.util.find_library("OSMesa"),
    }
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    there = [name for name, library in offscreen.items() if library]
    if chosen in offscreen:
        if chosen in there:
            found.append(f"{chosen.upper()} (MUJOCO_GL={chosen})")
            return
        package = {"egl": "libegl1", "osmesa": "libosmesa6"}[chosen]
        missing.append(f"the library that MUJOCO_GL={chosen} names: apt-get install {package}")
    elif os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        found.append("a screen, for MuJoCo")
    elif there:
        found.append(f"{there[0].upper()}, for MuJoCo")  # esd eval --video sets MUJOCO_GL itself
    else:
        missing.append(
            "EGL or OSMesa, for MuJoCo: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6"
        )


def one_picture(env: EnvironmentConfig, format: int) -> Iterator[Check]:
    """Draw one picture of an environment that says that it can; nothing of another one.

    Never a failure: training needs no pictures, and a machine need not be able to draw.

    Args:
        env: the environment, of one variant.
        format: of the run's settings.
    """
    from esd.evaluation.test_episodes import is_drawn_by_mujoco

    name = "a picture"
    try:
        # OpenGL keeps its first library, and may end the process
        draw = _in_a_fresh_process if is_drawn_by_mujoco(env.id) else described_picture
        text = draw(env, format)
    except Exception as error:  # whatever a user's render() raises
        known = isinstance(error, EsdError)
        text = str(error) if known else shortened(f"{type(error).__name__}: {error}", 300)
        yield note(name, f"{text}. esd eval --video will not work; training does")
        return
    if text:
        yield ok(name, text)


def described_picture(env: EnvironmentConfig, format: int) -> str:
    """Size and speed of the pictures in words; nothing if the environment doesn't declare any.

    Raises:
        UsageError: if it declares pictures that can't be drawn.
    """
    from esd.evaluation import video

    drawn = dataclasses.replace(env, kwargs={**env.kwargs, "render_mode": video.RENDER_MODE})
    with video.without_a_screen():
        if video.RENDER_MODE not in video.declared_modes(env, format):
            return ""
        found = video.try_one_picture(drawn, format, f"env.id = {env.id!r}")
    width, height = found.size
    return f"{width} × {height} pixels, {found.rate:g} frames per second"


def _in_a_fresh_process(env: EnvironmentConfig, format: int) -> str:
    """``described_picture`` in a process of its own.

    Raises:
        UsageError: if it can't be drawn, takes too long or ends the process.
    """
    done = subprocess.run(
        with_esd(f"import {__name__}; {__name__}.main()"),
        input=json.dumps({"env": to_table(env), "format": format}),
        capture_output=True,
        text=True,
        timeout=DRAWING_SECONDS,
        check=False,
    )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode or not last.startswith("{"):
        raise UsageError(f"drawing ended with code {done.returncode}")
    answer = json.loads(last)
    if "error" in answer:
        raise UsageError(str(answer["error"]))
    return str(answer["text"])


def main() -> None:
    """What ``_in_a_fresh_process`` runs: settings on stdin, the answer as the last line of stdout."""
    asked = json.load(sys.stdin)
    try:
        env = parse({"env": asked["env"]}, "the environment").env
        answer = {"text": described_picture(env, asked["format"])}
    except EsdError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
