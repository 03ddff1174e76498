"""A user's description of a cluster: what a job has to load before it can train, and what SLURM wants to be told.

It is a TOML file of the user's own, ``~/.config/esd/submit.toml`` or what ``--site`` names, never one from a run's
folder or the working directory: its lines are executed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esd.errors import UsageError, nearest, shown
from esd.reading import read_toml

LAUNCHERS = ("srun", "mpirun")
# words of #SBATCH lines: SLURM reads quotes, backslashes and # there in ways of its own
_PLAIN_WORD = re.compile(r"[^\s\"'\\#\x00-\x1f\x7f]+")
_OPTION = re.compile(
    r"--([a-z][a-z0-9-]*)(?:=[^\s\"'\\#\x00-\x1f\x7f]+)?|-([A-Za-z])(?: ?[^\s\"'\\#\x00-\x1f\x7f]+)?"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEXTS = ("account", "partition", "qos", "constraint", "mpi")
_LISTS = ("modules", "sbatch", "before", "apptainer")
_PLACES = ("venv", "conda", "image")


@dataclass(frozen=True)
class Site:
    """What a cluster needs.

    Attributes:
        account: for ``#SBATCH --account``; empty for the user's own default, as the next three.
        partition: for ``#SBATCH --partition``.
        qos: for ``#SBATCH --qos``.
        constraint: for ``#SBATCH --constraint``.
        launcher: ``srun`` or ``mpirun``.
        mpi: what ``srun --mpi=`` is given.
        sbatch: further options of sbatch.
        modules: environment modules to load.
        venv: the folder of a virtual environment.
        conda: the name or folder of a conda environment.
        image: an Apptainer image in which esd is installed.
        apptainer: further options of ``apptainer exec``.
        environment: variables to export.
        before: lines of bash, run as they are before the training.
    """

    account: str = ""
    partition: str = ""
    qos: str = ""
    constraint: str = ""
    launcher: str = "srun"
    mpi: str = "pmix"
    sbatch: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    venv: str = ""
    conda: str = ""
    image: str = ""
    apptainer: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()


def default_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a user's description is, if there is one."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "esd" / "submit.toml"


def read_site(path: Path | None, default: Path | None = None) -> Site:
    """Read a description.

    Args:
        path: what the user names; None for the default file, which need not exist.
        default: instead of ``default_file()``.

    Raises:
        UsageError: if it can't be read, or says something else than a ``Site`` has.
    """
    file = path or default or default_file()
    try:
        table = read_toml(file, follow=True)
    except FileNotFoundError:
        if path is None:
            return Site()
        raise UsageError(f"--site {path}: no such file") from None
    return site_of(table, str(file))


def site_of(table: Mapping[str, Any], name: str) -> Site:
    """A description from its tables; ``name`` is for messages.

    Raises:
        UsageError: for what is wrong with it.
    """
    known = list(Site.__dataclass_fields__)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{name}: unknown key {shown(key)}, {nearest(key, known)}")
        if key == "environment":
            values[key] = _environment(value, name)
        elif key in _LISTS:
            values[key] = _texts(key, value, name)
        else:
            values[key] = _text(key, value, name)
    if values.get("launcher", "srun") not in LAUNCHERS:
        raise UsageError(
            f"{name}: launcher = {shown(values['launcher'])}: expected one of {', '.join(LAUNCHERS)}"
        )
    for key in _TEXTS:
        if values.get(key):
            check_word(f"{name}: {key} =", values[key])
    for option in values.get("sbatch", ()):
        check_option(f"{name}: sbatch", option)
    _check_bash(f"{name}: before", values.get("before", ()))
    given = [key for key in _PLACES if values.get(key)]
    if len(given) > 1:
        raise UsageError(f"{name}: {' and '.join(given)} cannot be combined; use one of them")
    for key in ("venv", "image"):
        if values.get(key):
            values[key] = str(Path(values[key]).expanduser())
    return Site(**values)


def _check_bash(what: str, lines: Sequence[str]) -> None:
    """Refuse lines that bash can't read: they stand in the script as they are.

    Raises:
        UsageError: with what bash says.
    """
    bash = shutil.which("bash")
    if not lines or bash is None:
        return
    read = subprocess.run(
        [bash, "-n"], input="\n".join(lines).encode("utf-8", "surrogateescape"), capture_output=True, check=False
    )  # fmt: skip
    if read.returncode:
        said = read.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(f"{what}: is not valid bash ({said[0] if said else read.returncode})")


def check_word(what: str, value: str) -> None:
    """Refuse what can't stand in a ``#SBATCH`` line as it is.

    Raises:
        UsageError: if there are blanks, quotes, backslashes, control characters or # in it.
    """
    if not _PLAIN_WORD.fullmatch(value):
        raise UsageError(
            f"{what} {shown(value)}: expected a word without spaces, quotes, backslashes and #"
        )


# what a submission says by options of its own, or what resume depends on
RESERVED = {
    "array": "--array", "a": "--array", "nodes": "--nodes", "N": "--nodes", "ntasks": "--nodes and --ntasks-per-node",
    "n": "--nodes and --ntasks-per-node", "ntasks-per-node": "--ntasks-per-node", "time": "--time", "t": "--time",
    "signal": "--stop-before", "requeue": "", "no-requeue": "", "open-mode": "", "output": "", "o": "",
    "chdir": "", "D": "", "wrap": "", "parsable": "", "wait": "", "W": "", "test-only": "--dry-run", "job-name": "",
    "J": "", "gpus-per-node": "--gpus-per-node", "error": "", "e": "",
}  # fmt: skip


def check_option(what: str, option: str) -> None:
    """Refuse a further option of sbatch that is none, or that a submission sets itself.

    Raises:
        UsageError: if it is not of the kind ``--name``, ``--name=value`` or ``-X value``.
    """
    found = _OPTION.fullmatch(option)
    if not found:
        raise UsageError(
            f"{what} {shown(option)}: expected one option of sbatch without spaces, such as --mem=8G or --exclusive"
        )
    name = found[1] or found[2]
    if name in RESERVED:
        instead = RESERVED[name]
        raise UsageError(
            f"{what} {shown(option)}: esd submit sets this itself{instead and f'; use {instead}'}"
        )


def _text(key: str, value: Any, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{name}: {key} = {shown(value)}: expected a string in quotes")
    return value


def _texts(key: str, value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(
            f'{name}: {key} = {shown(value)}: expected a list of strings, such as ["…"]'
        )
    return tuple(_text(key, item, name) for item in value)


def _environment(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UsageError(
            f"{name}: environment = {shown(value)}: expected a table of variables, such as [environment]"
        )
    for variable, text in value.items():
        if not _NAME.fullmatch(variable):
            raise UsageError(
                f"{name}: environment: {shown(variable)} is not the name of a variable; expected letters, digits "
                "and _"
            )
        _text(f"environment.{variable}", text, name)
    return value
