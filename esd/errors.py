"""The error family: what is wrong, what was expected, and what to do about it."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED_EARLY = 75


class EsdError(Exception):
    """A failure whose message is all a user needs; the command line prints it without a traceback."""

    exit_code = EXIT_FAILED


class UsageError(EsdError):
    """The user asked for something that can't be done; nothing on disk was changed."""

    exit_code = EXIT_USAGE


class RunError(EsdError):
    """A run that can't go on (a rank is missing, too many members failed, a disk is full)."""


def nearest(word: str, known: list[str]) -> str:
    """A hint naming the nearest known word, or all of them if none is near: « (nearest: …)» or « (known: …)»."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
