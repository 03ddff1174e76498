"""Which environments there are: Gymnasium's, those of ``esd_envs``, and those of installed packages.

Gymnasium knows an environment once the module that registers it is imported. ``esd_envs`` is imported here. A package
of one's own names its module in the entry-point group ``esd.environments``; it is imported only when an id is asked for
that nobody has registered, so that a broken package is no trouble to who uses another environment.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path

import gymnasium

import esd_envs
from esd.config.kinds import ENVIRONMENTS

gymnasium.register_envs(esd_envs)  # importing it has registered them


def _name_the_library_of_glfw() -> None:
    """Spare glfw, which MuJoCo environments import, its search for a library.

    It tries each ``libglfw*.so`` of the working directory, in a ``python -c`` that takes modules from there as well: in
    a folder from elsewhere either would run code. Its wheels bring the library along.
    """
    found = importlib.util.find_spec("glfw")
    if found is None or found.origin is None or "PYGLFW_LIBRARY" in os.environ:
        return
    chosen = os.environ.get("PYGLFW_LIBRARY_VARIANT") or os.environ.get("XDG_SESSION_TYPE")
    variant = "wayland" if chosen is not None and chosen.lower() == "wayland" else "x11"
    library = Path(found.origin).parent / variant / "libglfw.so"
    if library.is_file():
        os.environ["PYGLFW_LIBRARY"] = str(library)


_name_the_library_of_glfw()


def register_for(id: str) -> dict[str, str]:
    """Make an environment's id known to Gymnasium, if an installed package registers it.

    Returns:
        What ``register_installed`` returns; nothing if the id was known before or names its module itself.
    """
    return {} if id in gymnasium.registry or ":" in id else register_installed()


@functools.cache
def register_installed() -> dict[str, str]:
    """Import the modules that installed packages name, in the order of their names; they register environments.

    Returns:
        By entry point, why its module could not be imported, in one line.
    """
    broken = {}
    for name, point in sorted(ENVIRONMENTS.installed.items()):
        try:
            point.load()
        except Exception as error:  # whatever is wrong with it, others may be fine
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            broken[name] = f"{point.value} can't be imported ({reason})"
    return broken
