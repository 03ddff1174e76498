"""Which variants a command line means: names, or patterns such as 'validation*'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from esd.errors import UsageError, nearest


def named(wanted: Sequence[str], known: Iterable[str], otherwise: str) -> list[str]:
    """The variants that are meant, each once, in the order in which they are asked for.

    Args:
        wanted: names, or patterns with *, ? or [].
        known: all names.
        otherwise: what is said of a name that is none of them.

    Raises:
        UsageError: if a name is none of them, or a pattern matches none.
    """
    names = list(known)
    found: dict[str, None] = {}
    for name in wanted:
        matching = [name] if name in names else [one for one in names if fnmatchcase(one, name)]
        if not matching:
            hint = nearest(name, names) if names else "the run has no variants"
            raise UsageError(f"--variant {name}: {otherwise}, {hint}")
        found.update(dict.fromkeys(matching))
    return list(found)
