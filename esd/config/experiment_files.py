"""Experiments of esd and of installed packages, and the user's TOML files, as tables."""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esd.config.installed import place_of
from esd.config.kinds import EXPERIMENTS
from esd.config.nearby import look_near
from esd.config.tables import DROPS, copied
from esd.errors import LONGEST_VALUE, UsageError, closest, nearest, shown
from esd.reading import CONFIG_BYTES, check_path, parse_toml, read_text

MOST_FILES = 1000  # of a folder that are compared with a name


def experiment_names() -> list[str]:
    """The experiments of esd and of installed packages, sorted."""
    return sorted(_named_files())


def _named_files() -> dict[str, Path]:
    """The files of experiments that have a name, by name; that of one of esd's can't be taken."""
    files: dict[str, Path] = {}
    for folder in (Path(__file__).parent / "experiments", *_folders_of_packages()):
        for file in sorted(folder.glob("*.toml")):
            files.setdefault(file.stem, file)
    return files


def _folders_of_packages() -> Iterator[Path]:
    """The folders of experiments that installed packages offer; nothing of a package is imported."""
    for _, point in sorted(EXPERIMENTS.installed.items()):
        for site in place_of(point.module).folders:
            folder = Path(site, *point.module.split("."))
            if folder.is_dir():
                yield folder


def first_comment(experiment: str) -> str:
    """The first line of an experiment with a name, which says what it is; empty if that is no comment."""
    text = read_text(_named_files()[experiment], CONFIG_BYTES, follow=True)
    line = text.partition("\n")[0].strip()
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def read_experiment(experiment: str) -> tuple[str, dict[str, Any]]:
    """Read an experiment by name, or a TOML file by path.

    A file may begin with ``extends = "…"``, another experiment or a file beside it, and then says only what differs.

    Returns:
        Its name (the file's stem) and its tables.

    Raises:
        UsageError: if there is no such experiment or file, it is not TOML, or it extends itself.
    """
    return Path(experiment).stem, _read_extended(experiment, ())


def read_own(experiment: str) -> dict[str, Any]:
    """What a user's files say, without what shipped experiments say that they extend; see ``read_experiment``."""
    return _read_extended(experiment, (), own=True)


def _read_extended(experiment: str, readers: tuple[str, ...], own: bool = False) -> dict[str, Any]:
    """The tables of an experiment over those that it extends.

    Args:
        experiment: a name or a path.
        readers: those that extend it.
        own: of a shipped experiment nothing.
    """
    if own and experiment in experiment_names():
        return {}
    check_path(Path(experiment))
    place = Path(experiment).resolve()  # one file has many paths: "../x/me.toml" in x
    if any(Path(reader).resolve() == place for reader in readers):
        raise UsageError(f"{' extends '.join((*readers, experiment))}: it extends itself")
    table = _read_toml(experiment)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise UsageError(f"{experiment}: extends = {base}: expected an experiment or a TOML file")
    files = _named_files()
    if base not in files:
        named, base = base, str(files.get(experiment, Path(experiment)).parent / base)
        if not Path(base).exists():
            close = closest(named, sorted(files))
            raise UsageError(
                f"{experiment}: extends = {shown(named)}: no such experiment, and no such file beside it{close}"
            )
    return _merged(_read_extended(base, (*readers, experiment), own), table)


def _read_toml(experiment: str) -> dict[str, Any]:
    """The tables in an experiment's own file."""
    files = _named_files()
    if experiment in files:
        text = read_text(files[experiment], CONFIG_BYTES, follow=True)
    elif experiment.endswith(".toml") or Path(experiment).is_file():
        try:
            text = read_text(Path(experiment), CONFIG_BYTES, follow=True)
            look_near(Path(experiment).parent)
        except FileNotFoundError:
            stem, shipped = Path(experiment).stem, experiment_names()
            near = "" if stem in shipped else _near_file(experiment)
            near = near or closest(stem, shipped)
            raise UsageError(f"{experiment}: no such file{near}") from None
    else:
        if Path(experiment).is_dir():
            raise UsageError(
                f"experiment {experiment!r}: is a folder; to resume the run in it, use --run {shlex.quote(experiment)}"
            )
        near = closest(experiment, experiment_names()) or _near_file(f"{experiment}.toml")
        hint = near or f", {nearest(experiment, experiment_names())}"
        raise UsageError(f"experiment {experiment!r}: no such experiment or TOML file{hint}")
    return parse_toml(text, experiment)


def _near_file(experiment: str) -> str:
    """A hint if a TOML file of nearly this name is in the same folder."""
    folder = Path(experiment).parent
    with contextlib.suppress(OSError):
        stems = sorted(path.stem for path in folder.glob("*.toml"))[:MOST_FILES]
        near = difflib.get_close_matches(Path(experiment).stem[:LONGEST_VALUE], stems, n=1)
        return f", did you mean {str(folder / f'{near[0]}.toml')!r}?" if near else ""
    return ""


def _merged(base: dict[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` over ``base``, table by table; of a policy of another kind only what that kind knows is kept."""
    result = copied(base)
    for key, value in table.items():
        before = result.get(key)
        nested = isinstance(before, dict) and isinstance(value, Mapping)
        for (section, name), drop in DROPS.items():
            if nested and key == section and name in value:
                drop(before, value[name])  # type: ignore[arg-type]
        result[key] = _merged(before, value) if nested else value  # type: ignore[arg-type]
    return result
