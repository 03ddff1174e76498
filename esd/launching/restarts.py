"""Whether a job that has ended is started again, and when: no processes, no files, no clock."""

from __future__ import annotations

from dataclasses import dataclass

from esd.errors import EXIT_FAILED, EXIT_STOPPED_EARLY, EXIT_USAGE
from esd.launching.train_command import Standing

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
MOST_FRUITLESS = 3  # restarts in a row without a new generation
KILLED_BY = 128  # and the signal's number is a shell's exit code


@dataclass(frozen=True)
class Ended:
    """A job that has ended.

    Attributes:
        code: its exit code.
        before: where the run stood when it was started.
        after: where it stands now.
        says_done: it said itself that the run is done.
        asked_to_stop: somebody asked it to.
        is_final: it said itself that it would fail again.
    """

    code: int
    before: Standing
    after: Standing
    says_done: bool
    asked_to_stop: bool
    is_final: bool = False

    @property
    def is_done(self) -> bool:
        """The run is finished: DONE.json is new, or there already and the job says that this is all."""
        if self.after.done is None:
            return False
        return self.after.done != self.before.done or (self.says_done and self.code == 0)

    @property
    def gained(self) -> int:
        """How many generations it has added."""
        return max(0, self.after.generations - max(0, self.before.generations))

    @property
    def is_fruitless(self) -> bool:
        """Whether it has neither added a generation nor found an evaluation that ends its processes."""
        return not self.gained and self.after.judged <= self.before.judged


@dataclass(frozen=True)
class Verdict:
    """What happens next.

    Attributes:
        exit_code: the supervisor leaves with it; None to start the job again.
        event: in a word: done, stopped, refused, gave-up, restart.
        why: of giving up.
        pause: seconds before the next start.
    """

    exit_code: int | None
    event: str
    why: str = ""
    pause: float = 0.0


class Restarts:
    """Counts restarts.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        """None yet."""
        self._most = most
        self.used = 0
        self._fruitless = 0

    def judge(self, ended: Ended) -> Verdict:
        """Decide, and count the restart if there is one."""
        if ended.is_done:
            return Verdict(0, "done")
        if ended.code == EXIT_STOPPED_EARLY:
            return Verdict(EXIT_STOPPED_EARLY, "stopped")
        if ended.code == EXIT_USAGE:
            return Verdict(EXIT_USAGE, "refused")
        if ended.is_final:
            code = ended.code or EXIT_FAILED
            return Verdict(code, "gave-up", "a restart would not help")
        if ended.asked_to_stop:  # it died of the wish: the journal has what was done
            killed = ended.code == 0 or ended.code > KILLED_BY
            return Verdict(EXIT_STOPPED_EARLY if killed else ended.code, "stopped")
        return self.again(ended.code, not ended.is_fruitless)

    def again(self, code: int, gained: bool) -> Verdict:
        """One more restart, if there may be one.

        Args:
            code: of the job that has died.
            gained: it has added a generation, or found out why there is none.
        """
        code = code or EXIT_FAILED  # 0 for a run that isn't done
        self._fruitless = 0 if gained else self._fruitless
        if self.used >= self._most:
            why = f"all {self._most} restarts were used (--max-restarts)"
            return Verdict(code, "gave-up", why if self._most else "no restarts are allowed")
        if self._fruitless >= MOST_FRUITLESS:
            why = f"{MOST_FRUITLESS} restarts in a row completed no generation"
            return Verdict(code, "gave-up", why)
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self._fruitless)
        self._fruitless += 1
        self.used += 1
        return Verdict(None, "restart", pause=pause)
