"""Can pictures be drawn here and made into a video? Training needs none of it; ``esd eval --video`` does."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import sys

from esd.doctor.machine import Check, note, ok


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
    encoder = shutil.which("ffmpeg") or ("imageio-ffmpeg" if _has("imageio_ffmpeg") else "")
    if encoder:
        found.append("ffmpeg" if encoder != "imageio-ffmpeg" else encoder)
    else:
        missing.append(
            "ffmpeg, which writes videos: pip install imageio-ffmpeg, or apt-get install ffmpeg"
        )
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
        missing.append(f"export MUJOCO_GL={there[0]}, for MuJoCo without a screen")
    else:
        missing.append(
            "EGL or OSMesa, for MuJoCo: apt-get install libegl1, and export MUJOCO_GL=egl"
        )


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
