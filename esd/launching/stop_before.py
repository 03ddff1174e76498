"""How long before its time limit a training is asked to stop: a generation has to end in that time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from esd.errors import UsageError
from esd.launching.slurm_time import text_of
from esd.run import metrics
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from esd.training.plan import Plan

STOP_BEFORE_SECONDS = 120
LEAST_STOP_SECONDS = 5
SAFETY = 1.5  # generations differ in length


def when_to_stop(asked: int | None, seconds: int, plans: Sequence[Plan], ranks: int) -> int:
    """How many seconds before the time limit the training is asked to stop.

    Args:
        asked: by the user; None for what fits.
        seconds: the time limit.
        plans: of all tasks.
        ranks: that each will have.

    Raises:
        UsageError: if the time limit is too short for that, or for a generation of a run that is resumed.
    """
    slowest = max(_generation_seconds(plan, ranks) for plan in plans)
    stop = asked
    if stop is None:
        stop = min(STOP_BEFORE_SECONDS, max(LEAST_STOP_SECONDS, seconds // 4))
        stop = max(stop, round(SAFETY * slowest))
    if stop < LEAST_STOP_SECONDS:
        raise UsageError(
            f"--stop-before {stop}: expected at least {LEAST_STOP_SECONDS} seconds, so that the current generation "
            "can end"
        )
    if slowest and asked is not None and asked < slowest:
        raise UsageError(
            f"--stop-before {asked}: too short for a generation, which takes about {slowest:.0f} s on {ranks} ranks. "
            f"Use --stop-before {round(SAFETY * slowest)} or more, or leave it out"
        )
    if seconds < stop + max(slowest, LEAST_STOP_SECONDS):
        why = f"a generation takes about {slowest:.0f} s on {ranks} ranks, and " if slowest else ""
        raise UsageError(
            f"--time {text_of(seconds)}: too short, because {why}training stops {stop} s before the limit "
            f"(--stop-before). Use --time {text_of(2 * stop + round(2 * slowest))} or more"
        )
    return stop


def _generation_seconds(plan: Plan, ranks: int) -> float:
    """How long a generation of a run that is resumed will take on so many ranks; 0 if nobody knows yet."""
    if not plan.resumes or plan.erase:
        return 0.0
    with contextlib.suppress(UsageError, OSError):
        last = metrics.read(RunFolder(plan.folder, Trust.NEVER).metrics_file)[-1:]
        for line in last:
            took, on = line.get("generation_seconds"), line.get("ranks")
            if isinstance(took, float) and isinstance(on, int) and on > 0:
                return took * on / ranks
    return 0.0
