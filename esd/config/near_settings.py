"""Which setting is meant by a name that is none, such as ``sigma`` for ``es.sigma``."""

from __future__ import annotations

import difflib
from collections.abc import Collection

LONGEST = 100  # characters of a name that is compared


def settings_like(name: str, names: Collection[str]) -> list[str]:
    """Settings with the same last part as a name, or if there are none with nearly the same.

    Args:
        name: as a user wrote it; ``max-steps`` is ``max_steps``.
        names: of all settings.

    Returns:
        Dotted names as ``--set`` takes them; the name itself first, if it is one.
    """
    wanted = name[:LONGEST].replace("-", "_")
    by_last: dict[str, list[str]] = {}
    for known in sorted(names, key=lambda known: (known != wanted, known)):
        by_last.setdefault(known.rpartition(".")[2], []).append(known)
    last = wanted.rpartition(".")[2]
    if last in by_last:
        return by_last[last]
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.8)
    return by_last[near[0]] if near else []
