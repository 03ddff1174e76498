"""The files that ``esd init`` writes: an experiment and the Python module that it names, from ``templates``."""

from __future__ import annotations

import builtins
import contextlib
import json
import keyword
import os
import re
import sys
from importlib import resources
from pathlib import Path

from esd.errors import UsageError, closest, shown

OBJECTIVE, ENVIRONMENT = "objective", "environment"
CLASSES = {ENVIRONMENT: "PointMass", "policy": "MyPolicy"}  # in the templates
LONGEST_NAME = 100


def write(kind: str, name: str | None, env: str | None) -> list[str]:
    """Write them into the working directory.

    Args:
        kind: "environment", "objective" or "policy".
        name: of the module, with or without ".toml"; ``my_<kind>`` if None.
        env: a registered environment in place of the template's.

    Returns:
        The files' names, the experiment last.

    Raises:
        UsageError: if the name is none that a module can have, a file exists, or nothing can be written here.
    """
    module = f"my_{kind}" if name is None else name.removesuffix(".toml").removesuffix(".py")
    texts = _texts(kind, module, env)
    only_toml = len(texts) == 1
    _check_name(module, name, importable=not only_toml)
    for file in texts:
        if os.path.lexists(file):
            raise UsageError(
                f"{file}: exists already and is not overwritten; name other files: esd init {kind} NAME"
            )
    written: list[str] = []
    try:
        for file, text in texts.items():
            with Path(file).open("x", encoding="utf-8") as opened:
                written.append(file)
                opened.write(text)
    except OSError as error:
        for half in written:  # it would be in the way of the next try
            with contextlib.suppress(OSError):
                Path(half).unlink()
        raise UsageError(
            f"{file}: could not be written ({error.strerror}); change to another folder"
        ) from None
    return written


def _texts(kind: str, module: str, env: str | None) -> dict[str, str]:
    """Contents by file name."""
    if env is not None and kind == OBJECTIVE:
        raise UsageError(f"--env {shown(env)}: an objective has no environment; remove --env")
    if env is not None:
        _check_env(env)
    experiment = _template(f"{kind}.toml")
    files = {f"{module}.py": _template(f"{kind}.py.txt")}
    if env is not None and kind == ENVIRONMENT:
        files = {}
        # what only the example has: keyword arguments, and a step limit that a registered environment brings along
        experiment = re.sub(r"(?m)^(kwargs|max_steps) = .*\n", "", experiment)
        experiment = re.sub(r"(?m)^# Evaluate every(.*\n)*?\n(?=\[policy\])", "", experiment)
        experiment = experiment.replace("An environment of your own", f"Train in {env}", 1)
    if env is not None:
        identity = json.dumps(env, ensure_ascii=False)
        experiment = re.sub(r'(?m)^id = ".*$', lambda _: f"id = {identity}", experiment, count=1)
    files[f"{module}.toml"] = experiment
    texts = {file: text.replace(f"my_{kind}", module) for file, text in files.items()}
    old = CLASSES.get(kind, "")
    new = _class_name(module, kind, {*re.findall(r"\w+", "".join(files.values()))} - {old})
    return {file: text.replace(old, new) if old else text for file, text in texts.items()}


def _class_name(module: str, kind: str, used: set[str]) -> str:
    """The name of a module's class: MyRobot for my_robot; ``used``: names that stand for something else there."""
    name = "".join(part[:1].upper() + part[1:] for part in module.split("_"))
    # None, ValueError, or what the file imports
    taken = keyword.iskeyword(name) or hasattr(builtins, name) or name in used
    return f"{name}{kind.capitalize()}" if taken or not name.isidentifier() else name


def _check_env(env: str) -> None:
    """Refuse what is no id, or one that nobody has registered; a module of the user's may be written later."""
    if not (env.strip() and env.isprintable()):
        raise UsageError(
            f"--env {shown(env)}: expected the id of an environment, such as Pendulum-v1"
        )
    if ":" in env:
        return
    import gymnasium

    from esd.episodes.registration import register_for

    register_for(env)
    if env not in gymnasium.registry:
        near = closest(env, list(gymnasium.registry)) or ", esd list environments shows all"
        raise UsageError(f"--env {shown(env)}: no such environment is installed{near}")


def _template(file: str) -> str:
    return (resources.files("esd.commands") / "templates" / file).read_text("utf-8")


def _check_name(module: str, name: str | None, importable: bool) -> None:
    """Refuse what Python could not import from here, or would import from elsewhere."""
    from esd.config.installed import is_installed

    expected = "expected the name of a Python module, such as my_robot, without a folder"
    ascii_word = module.isascii() and module.isidentifier() and not keyword.iskeyword(module)
    if not ascii_word or len(module) > LONGEST_NAME:
        raise UsageError(f"{shown(name)}: {expected}")
    if not importable:
        return
    if module in sys.stdlib_module_names or module in ("esd", "esd_envs") or is_installed(module):
        raise UsageError(f"{shown(name)}: is the name of an installed module; {expected}")
    if Path(module).is_dir():
        raise UsageError(f"{shown(name)}: is a folder here, which may hide {module}.py; {expected}")
