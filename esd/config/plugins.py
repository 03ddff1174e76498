"""``module:Name`` in a config: the user's own policies, wrappers, environments … and what they raise."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from esd.config.installed import is_installed
from esd.errors import (
    EsdError,
    MissingPackageError,
    UsageError,
    missing_module,
    nearest,
    shortened,
)

OURS = f"{Path(__file__).parent.parent}{os.sep}"
LIBRARIES = tuple(
    f"{path}{os.sep}"
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_ABSENT = object()
_DIRECTORIES: dict[
    str, Path
] = {}  # by module, where its import left the working directory, if it changed it


def make_working_directory_importable(module: str) -> None:
    """Put the working directory on ``sys.path``, which a console script doesn't have, so that every rank finds it.

    Args:
        module: that is about to be imported. One that is installed needs nothing from the working directory, where an
            optional package that is missing may have a namesake that somebody else has put there.
    """
    if is_installed(module):
        return
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def is_of_the_users_code(error: BaseException) -> bool:
    """Whether what was caught around a call of the user's code is theirs to fix.

    It isn't if somebody pressed Ctrl-C, or if it is one of esd's own: a message that is complete already, a time
    limit, or a failure of another rank. Anything else is, also what doesn't derive from Exception, as ``SystemExit``.
    """
    ours = isinstance(error, EsdError) or type(error).__module__.partition(".")[0] == "esd"
    return not ours and not isinstance(error, KeyboardInterrupt)


@contextlib.contextmanager
def users_code(who: str, call: str, failure: type[EsdError] = UsageError) -> Iterator[None]:
    """Turn whatever the user's code raises in the block into one line.

    Args:
        who: the setting that names the code, such as "policy.kind = 'my_policies:Mine'".
        call: what was called, such as "reset".
        failure: what to raise.

    Raises:
        EsdError: a ``failure`` with the user's error as its cause.
    """
    try:
        yield
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        raise failure(f"{who}: {call} raised {in_one_line(error)}") from error


def text_of(value: object) -> str:
    """The text of an error, or of any other object of the user's, without line breaks; it may be empty."""
    try:
        text = str(value)
    except Exception as second:  # a __str__ of theirs
        text = f"its message can't be formatted: {type(second).__name__}"
    return " ".join(text[:5000].split())


def in_one_line(error: BaseException) -> str:
    """An error of the user's code in one line, with its place in that code."""
    name = shortened(type(error).__name__, 80)
    text = shortened(f"{name}: {text_of(error)}".rstrip(": "), 300)
    # a SyntaxError of an import says its place itself
    where = "" if isinstance(error, SyntaxError) and error.lineno is not None else _place(error)
    return f"{text}{where}"


def _place(error: BaseException) -> str:
    """The deepest line of the user's own that an error went through, or of a library if there is none."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", OURS))
    ]
    own = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]
    if not (own or frames):
        return ""
    last = (own or frames)[-1]
    return f" ({shortened(Path(last.filename).name, 60)}, line {last.lineno})"


def their_traceback(error: BaseException | None) -> str:
    """The traceback of an error of the user's code, without the frames of esd; empty if it has no other."""
    if error is None:
        return ""
    shown = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = shown
    seen = False
    while link is not None:
        frames = [
            frame
            for frame in link.stack
            if not frame.filename.startswith(("<frozen importlib", OURS))
        ]
        seen = seen or any(not frame.filename.startswith(LIBRARIES) for frame in frames)
        link.stack = traceback.StackSummary.from_list(frames)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(shown.format()) if seen else ""


def import_failed(what: str, reference: str, error: BaseException) -> UsageError:
    """What is said of a module of the user's that raises while it is imported."""
    return UsageError(
        f"{what} = {shortened(repr(reference))}: importing it raised {in_one_line(error)}"
    )


def import_name(reference: str, what: str) -> Any:
    """Import ``module:Name``.

    Args:
        reference: as written in the config.
        what: the key it stands under, for messages.

    Raises:
        UsageError: if it isn't written so, or the module or the name in it can't be imported, or raises meanwhile;
            ``MissingPackageError`` if that is because an optional package isn't installed.
    """
    shown = f"{what} = {shortened(repr(reference))}"
    module_name, name = _split(reference, shown)
    make_working_directory_importable(module_name)
    here = Path.cwd()
    try:
        with contextlib.chdir("."):  # it may change the directory, and relative paths with it
            module = importlib.import_module(module_name)
            found = getattr(module, name, _ABSENT)  # a module may import this only now
            if Path.cwd() != here:
                _DIRECTORIES[module_name] = Path.cwd()
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        if isinstance(error, ImportError) and (missing := missing_module(error)) is not None:
            raise MissingPackageError(shown, missing) from error
        if isinstance(error, ModuleNotFoundError) and _is_part_of(module_name, error.name):
            raise UsageError(
                f"{shown}: module {shortened(repr(module_name), 60)} can't be imported "
                f"({shortened(text_of(error), 150)}); esd looked in the working directory "
                f"{shortened(str(Path.cwd()), 200)} and the installed packages{_like_it(module_name)}"
            ) from error
        raise import_failed(what, reference, error) from error
    if found is _ABSENT:
        raise UsageError(f"{shown}: no {shortened(repr(name), 60)} in it{_what_else(module, name)}")
    return found


def directory_after(reference: str) -> Path:
    """The working directory that the import of ``module:Name`` has left, which the module's functions may rely on."""
    return _DIRECTORIES.get(reference.partition(":")[0], Path.cwd())


def _split(reference: str, shown: str) -> tuple[str, str]:
    """The module and the name in ``module:Name``."""
    module, colon, name = reference.partition(":")
    if colon and is_module_name(module) and name.isidentifier():
        return module, name
    raise UsageError(
        f"{shown}: expected module:Name, such as my_module:MyClass{how_to_write(module, name)}"
    )


def is_module_name(text: str) -> bool:
    """Whether a text is a module's name as Python imports it."""
    return not text.endswith(".py") and all(part.isidentifier() for part in text.split("."))


def how_to_write(module: str, name: str) -> str:
    """A hint for who has written a file's path, or a relative name, in place of a module; empty if it is neither."""
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        return f"; write the module as Python imports it: {shortened(dotted, 60)}:{shortened(name, 60)}"
    if module.startswith("."):
        return "; relative names are not supported, write the full name of the module"
    return ""


def _is_part_of(module: str, missing: str | None) -> bool:
    """Whether a module that is not there is the one asked for, or a package that it is in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _like_it(module: str) -> str:
    """A hint if the working directory has a module of nearly this name."""
    name = module.partition(".")[0]
    with contextlib.suppress(OSError):
        for path in sorted(Path.cwd().iterdir())[:1000]:
            if path.stem != name and path.stem.lower() == name.lower():
                return f"; did you mean {path.stem!r}?"
    return ""


def _what_else(module: ModuleType, name: str) -> str:
    """What a module has instead of a name, or which other module hides the one that is meant."""
    file = getattr(module, "__file__", None)
    if file is None and hasattr(module, "__path__"):
        folder = shortened(str(next(iter(module.__path__), module.__name__)), 200)
        return f": it is the folder {folder}, which has no __init__.py"
    local = Path.cwd() / f"{module.__name__.replace('.', '/')}.py"
    if file is not None and local.is_file() and not local.samefile(file):
        return (
            f": {shortened(str(file), 200)} has the same name as {local.name} in the working directory; rename your "
            "file"
        )
    exported = getattr(module, "__all__", None)
    names = exported if isinstance(exported, list | tuple) else vars(module)
    public = [key for key in names if isinstance(key, str) and not key.startswith("_")]
    same = [key for key in public if key.lower() == name.lower()]
    hint = f"did you mean {same[0]!r}?" if same else nearest(name, public)
    return f", {shortened(hint, 300)}"
