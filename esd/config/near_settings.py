"""Which setting is meant by a name that is none, such as ``sigma`` for ``es.sigma``."""

from __future__ import annotations

import difflib
import re

LONGEST = 100  # characters of a name that is compared


def settings_like(name: str) -> list[str]:
    """Settings with the same last part as a name, or if there are none with nearly the same.

    Args:
        name: as a user wrote it; ``max-steps`` is ``max_steps``.

    Returns:
        Dotted names as ``--set`` takes them, each once; the name itself first, if it is one.
    """
    from esd.config.descriptions import described_settings

    wanted = name[:LONGEST].replace("-", "_")
    # policy.<gru>.units is policy.units; what has a name of the user's own within can't be suggested
    names = {re.sub(r"\.<\w+>", "", key) for key in described_settings() if "<name>" not in key}
    by_last: dict[str, list[str]] = {}
    for known in sorted(names, key=lambda known: (known != wanted, known)):
        by_last.setdefault(known.rpartition(".")[2], []).append(known)
    last = wanted.rpartition(".")[2]
    if wanted in names or last in by_last:
        return by_last[last]
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.8)
    return by_last[near[0]] if near else []
