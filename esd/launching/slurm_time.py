"""SLURM's notation of time limits."""

from __future__ import annotations

import re

from esd.errors import UsageError, shown

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_DAYS = 3650
_CLOCK = re.compile(r"(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?")
_DAYS = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?")


def seconds_of(text: str) -> int:
    """A time limit in seconds.

    Args:
        text: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or
            days-hours:minutes:seconds.

    Raises:
        UsageError: if it is anything else, zero, or longer than ten years.
    """
    if found := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = days * DAY + hours * HOUR + minutes * MINUTE + seconds
    elif found := _CLOCK.fullmatch(text):
        first, second, third = found.groups()
        if third is not None:
            total = int(first) * HOUR + int(second) * MINUTE + int(third)
        else:
            total = int(first) * MINUTE + int(second or 0)
    else:
        total = 0
    if not 0 < total <= LONGEST_DAYS * DAY:
        raise UsageError(
            f"--time {shown(text)}: is not a time limit; expected minutes, HOURS:MINUTES:SECONDS or "
            "DAYS-HOURS:MINUTES:SECONDS, such as --time 2:00:00"
        )
    return total


def text_of(seconds: int) -> str:
    """The same as SLURM prints it: ``1-02:03:04``, or ``02:03:04``."""
    days, rest = divmod(seconds, DAY)
    clock = f"{rest // HOUR:02}:{rest % HOUR // MINUTE:02}:{rest % MINUTE:02}"
    return f"{days}-{clock}" if days else clock
