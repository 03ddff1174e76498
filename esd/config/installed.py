"""Where Python would find a module: in an installed package, or elsewhere, such as in the working directory.

Nothing is imported. Installed is what lies where this interpreter keeps packages, or is installed for editing. Code in
the working directory, on ``PYTHONPATH`` or beside a script is not, also where its name hides that of a package.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

OURS = ("esd", "esd_envs", "esd_kernels")
LARGEST_PTH = 1_000_000  # bytes of a file that names further folders


@dataclass(frozen=True)
class Place:
    """Where a module would come from.

    Attributes:
        installed: it is esd's, Python's, or an installed package's.
        folders: where its top-level package was found; empty if nowhere.
        file: of that package, for messages; empty if it has none.
    """

    installed: bool
    folders: tuple[str, ...] = ()
    file: str = ""


def place_of(module: str) -> Place:
    """Where a module would come from if it were imported now."""
    top = module.partition(".")[0]
    if not top.isidentifier():  # nothing can be imported by such a name
        return Place(False)
    if top in OURS:
        return Place(True)
    found = _found(top)
    if found is None:
        return Place(False)
    locations = [*(found.submodule_search_locations or ())]
    file = found.origin if found.has_location and found.origin else next(iter(locations), "")
    parents = locations or ([file] if file else [])
    folders = tuple(sorted({str(Path(path).absolute().parent.resolve()) for path in parents}))
    return Place(_same(found, _found_installed(top)), folders, str(file))


def is_installed(module: str) -> bool:
    """Whether a module is esd's, Python's, or an installed package's."""
    top = module.partition(".")[0]
    return top in OURS or _is_installed(top, (*sys.path,), top in sys.modules, Path.cwd())


@functools.lru_cache(
    1000
)  # it is asked whenever an environment is made, which may be for every episode
def _is_installed(top: str, path: tuple[str, ...], loaded: bool, here: Path) -> bool:
    return place_of(top).installed


def _found(top: str) -> ModuleSpec | None:
    """What an import would find, with the working directory at the end of the path; or what was imported already."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        spec = getattr(loaded, "__spec__", None)
        if isinstance(spec, ModuleSpec):
            return spec
        file = getattr(loaded, "__file__", None)  # of __main__, say
        return importlib.util.spec_from_file_location(top, file) if file else None
    for finder in sys.meta_path:
        try:
            if finder is PathFinder:
                spec = PathFinder.find_spec(top, [*sys.path, str(Path.cwd())])
            else:
                spec = finder.find_spec(top, None)
        except Exception:  # a finder of somebody's package, or a working directory that was removed
            continue
        if spec is not None:
            return spec
    return None


def _found_installed(top: str) -> ModuleSpec | None:
    """What an import would find if Python looked only where packages are installed."""
    folders = installed_folders()
    path = [
        entry
        for entry in sys.path
        if entry.startswith("__editable__") or (entry and os.path.normpath(entry) in folders)
    ]
    lookups: list[Any] = [
        lambda: BuiltinImporter.find_spec(top),
        lambda: FrozenImporter.find_spec(top),
        lambda: PathFinder.find_spec(top, path),
        *(functools.partial(finder.find_spec, top, None) for finder in _finders_of_packages()),
    ]
    for look_up in lookups:
        try:
            spec: ModuleSpec | None = look_up()
        except Exception:  # a finder of somebody's package
            continue
        if spec is not None:
            return spec
    return None


def _same(one: ModuleSpec, other: ModuleSpec | None) -> bool:
    """Whether two specs name the same files."""
    if other is None:
        return False
    places = [{*(spec.submodule_search_locations or ())} for spec in (one, other)]
    return one.origin == other.origin and places[0] == places[1]


def _finders_of_packages() -> Iterator[Any]:
    """The finders that packages installed for editing bring along: their modules lie beside the packages."""
    for finder in sys.meta_path:
        name = getattr(finder, "__module__", None) or type(finder).__module__
        file = getattr(sys.modules.get(str(name)), "__file__", None)
        if isinstance(file, str) and os.path.normpath(Path(file).parent) in installed_folders():
            yield finder


@functools.cache
def installed_folders() -> frozenset[str]:
    """The folders in which this interpreter keeps its own modules and packages, and those that .pth files add."""
    paths = sysconfig.get_paths()
    library = [paths[key] for key in ("stdlib", "platstdlib")]
    dynamic = sysconfig.get_config_var("DESTSHARED")
    packages = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        packages.append(site.getusersitepackages())
    added = [folder for each in dict.fromkeys(packages) for folder in _of_pth_files(Path(each))]
    compiled = [*([dynamic] if dynamic else []), *(f"{path}/lib-dynload" for path in library)]
    return frozenset(os.path.normpath(path) for path in (*library, *compiled, *packages, *added))


def _of_pth_files(folder: Path) -> Iterator[str]:
    """The folders that the .pth files of a folder with packages put on Python's path."""
    try:
        files = sorted(folder.glob("*.pth"))
    except OSError:
        return
    for file in files:
        try:
            if file.stat().st_size > LARGEST_PTH:
                continue
            lines = file.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            text = line.strip()
            if text and not text.startswith(("#", "import ", "import\t")):
                yield str(folder / text)
