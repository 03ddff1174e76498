"""Reading files that anyone may have written: regular files of bounded size, and JSON and TOML of bounded depth.

Every file of a run or an experiment is opened here. A FIFO would block for ever, ``/dev/zero`` and a sparse file of a
terabyte would take all memory, and TOML that nests deeply would take minutes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from esd.errors import UsageError, shortened

MB = 1_000_000
CONFIG_BYTES = MB
DEEPEST = 32  # tables and lists within each other; a config has about 6
LONGEST_KEY = 16  # parts of a dotted key: tomllib needs the square of them
MOST_DIGITS = 20  # of a whole number in JSON: 64 bits

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISLNK: "a symbolic link",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def kind_of(mode: int) -> str:
    """What a file is that is not a regular one, in words."""
    return next((name for test, name in _KINDS.items() if test(mode)), "a regular file")


def open_regular(path: Path, most: int | None = None, *, follow: bool = False) -> BinaryIO:
    """Open a regular file for reading, and nothing else.

    Args:
        path: the file.
        most: the largest size in bytes that is read; None for any.
        follow: also through a symbolic link, as for files that the user names. Within a run's folder links are
            refused: they would let a folder from elsewhere name any file of its reader.

    Raises:
        FileNotFoundError: if it isn't there.
        UsageError: if it can't be opened, is of another kind, or too large.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UsageError(f"{path}: can't be read ({_reason(path, error)})") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path}: is {kind_of(found.st_mode)}; expected a regular file")
        if most is not None and found.st_size > most:
            raise UsageError(
                f"{path}: {found.st_size:,} bytes, expected at most {most:,}: this file was not written by esd"
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_path(path: Path) -> None:
    """Refuse a path that nothing can have; whether there is anything is another question.

    Raises:
        UsageError: if it is too long, has a null character, or its links lead in a circle.
    """
    reason = ""
    try:
        path.stat()
    except ValueError:
        reason = "it contains a null character"
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            reason = error.strerror or "not possible"
    if reason:
        raise UsageError(
            f"{shortened(str(path))!r}: is not a usable path ({reason}); use another one"
        )


def _reason(path: Path, error: OSError | ValueError) -> str:
    """Why a file can't be opened: of a link more than "Too many levels of symbolic links"."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP and path.is_symlink():
        return "it is a symbolic link; replace it with the file that it points to"
    return getattr(error, "strerror", None) or str(error)


def read_bytes(path: Path, most: int, *, follow: bool = False) -> bytes:
    """The bytes of a regular file of at most ``most``.

    Raises:
        FileNotFoundError: if it isn't there.
        UsageError: see ``open_regular``.
    """
    with open_regular(path, most, follow=follow) as file:
        try:
            # so many bytes are allocated at once, so not "most"
            data = file.read(os.fstat(file.fileno()).st_size + 1)
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    if len(data) > most:  # it has grown since
        raise UsageError(f"{path}: more than {most:,} bytes")
    return data


def read_text(path: Path, most: int, *, follow: bool = False) -> str:
    """The text of a regular UTF-8 file.

    Raises:
        FileNotFoundError: if it isn't there.
        UsageError: if it is not UTF-8, and see ``open_regular``.
    """
    try:
        return read_bytes(path, most, follow=follow).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})") from None


def read_toml(path: Path, *, follow: bool = False) -> dict[str, Any]:
    """The tables of a TOML file of at most 1 MB.

    Raises:
        FileNotFoundError: if it isn't there.
        UsageError: if it is not TOML, or too deep, and see ``read_text``.
    """
    return parse_toml(read_text(path, CONFIG_BYTES, follow=follow), str(path))


def read_json(path: Path, most: int) -> Any:
    """What a JSON file within a run's folder holds.

    Raises:
        FileNotFoundError: if it isn't there.
        UsageError: if it is not JSON, or too deep, and see ``read_text``.
    """
    text = read_text(path, most)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None


def parse_json(text: str | bytes, infinite: bool = False) -> Any:
    """JSON of at most ``DEEPEST`` levels, whose whole numbers have 64 bits; NaN and infinity are None.

    Args:
        text: the JSON.
        infinite: keep NaN and infinity, as Python's ``json`` writes them.

    Raises:
        ValueError: if it is anything else, in one line.
    """
    try:
        constant = float if infinite else lambda name: None
        data = json.loads(text, parse_int=_whole, parse_constant=constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if depth_is_beyond(data, DEEPEST):
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return data


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """TOML of at most 1 MB and ``DEEPEST`` levels.

    Args:
        text: the file, or as much of one as a setting is.
        name: what to call it in messages.

    Raises:
        UsageError: if it is anything else.
    """
    text = text.removeprefix("\ufeff")  # with which editors of Windows may begin a file
    if len(text) > CONFIG_BYTES:
        raise UsageError(f"{name}: {len(text):,} characters, expected at most {CONFIG_BYTES:,}")
    for problem in too_much_for_tomllib(text):
        raise UsageError(f"{name}: {problem}")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{name}: nested too deeply") from None
    except (tomllib.TOMLDecodeError, ValueError) as error:  # ValueError: too many digits
        raise UsageError(f"{name}: not valid TOML, {error}") from None
    if depth_is_beyond(table, DEEPEST):
        raise UsageError(f"{name}: nested more than {DEEPEST} levels deep")
    return table


# strings and comments as a whole (one that isn't closed goes to the end, as tomllib refuses it there), and what counts;
# every beginning has its end, so nothing is tried twice. Possessive repeats of alternatives (``*+`` behind a group)
# would say so, but match wrongly before Python 3.11.5 (CPython's issue 100061)
_TOKENS = re.compile(
    r'"""(?:[^"\\]|\\.?|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.?)*(?:"|\n|\Z)'
    r"|'[^'\n]*+(?:'|\n|\Z)"
    r"|#[^\n]*+"
    r"|[\[{\]}.,=\n]",
    re.DOTALL,
)


def too_much_for_tomllib(text: str) -> Iterator[str]:
    """What would keep tomllib busy for minutes, in words: its time grows with the square of a key's parts."""
    level = parts = 0
    for token in _TOKENS.finditer(text):
        mark = token.group()
        if mark in ("[", "{"):
            level += 1
            parts = 0
            if level > DEEPEST:
                yield f"nested more than {DEEPEST} levels deep"
        elif mark in ("]", "}"):
            level = max(0, level - 1)
        elif mark == ".":
            parts += 1
            if parts >= LONGEST_KEY:
                line = text.count("\n", 0, token.start()) + 1
                yield f"line {line}: a dotted key of more than {LONGEST_KEY} parts"
        elif mark in (",", "=", "\n"):
            parts = 0


def depth_is_beyond(value: Any, most: int) -> bool:
    """Whether tables and lists stand in each other more than ``most`` levels deep; without recursion."""
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list | tuple)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list | tuple) for item in level)
