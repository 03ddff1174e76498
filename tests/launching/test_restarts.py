"""What the supervisor does with a job that has ended."""

from __future__ import annotations

import pytest

from esd.launching.restarts import Ended, Restarts
from esd.launching.train_command import Standing

OLD, NEW = (1, 1), (1, 2)


def ended(
    code: int, before: int = 0, after: int = 0, *, done: tuple[int, int] | None = None,
    had_done: tuple[int, int] | None = None, says_done: bool = False, asked: bool = False,
) -> Ended:  # fmt: skip
    return Ended(
        code, Standing(before, OLD, had_done), Standing(after, OLD, done), says_done, asked
    )


@pytest.mark.parametrize(
    ("job", "code", "event"),
    [
        (ended(0, done=NEW, says_done=True), 0, "done"),
        (ended(137, done=NEW), 0, "done"),  # a rank died on the way out
        (ended(0, done=OLD, had_done=OLD, says_done=True), 0, "done"),  # nothing was left to do
        (ended(0), None, "restart"),  # mpirun says 0, but the run isn't done
        (ended(0, done=OLD, had_done=OLD), None, "restart"),  # it was done before it was extended
        (ended(2), 2, "refused"),
        (ended(75), 75, "stopped"),
        (
            ended(137, asked=True),
            75,
            "stopped",
        ),  # died of a signal that came before it could listen
        (ended(1, asked=True), 1, "stopped"),  # and failed for another reason
        (ended(1), None, "restart"),
        (ended(137), None, "restart"),
    ],
)
def test_success_is_done_json_and_not_the_exit_code(
    job: Ended, code: int | None, event: str
) -> None:
    verdict = Restarts(5).judge(job)
    assert (verdict.exit_code, verdict.event) == (code, event)


def test_pauses_double_until_a_generation_is_gained() -> None:
    restarts = Restarts(100)
    pauses = [restarts.judge(ended(137, 5, 5)).pause for _ in range(2)]
    pauses += [restarts.judge(ended(137, 5, 6)).pause]
    pauses += [restarts.judge(ended(137, 6, 6)).pause]
    assert pauses == [1.0, 2.0, 1.0, 2.0]
    assert restarts.used == 4


def test_it_gives_up_after_three_restarts_without_a_generation() -> None:
    restarts = Restarts(100)
    verdicts = [restarts.judge(ended(139, -1, -1)) for _ in range(4)]
    assert [verdict.exit_code for verdict in verdicts] == [None, None, None, 139]
    assert verdicts[-1].why == "3 restarts in a row completed no generation"


def test_it_gives_up_when_restarts_are_used_with_the_jobs_code_but_never_0() -> None:
    restarts = Restarts(1)
    assert restarts.judge(ended(0, 0, 5)).exit_code is None
    last = restarts.judge(ended(0, 5, 9))
    assert (last.exit_code, last.event) == (1, "gave-up")
    assert "--max-restarts" in last.why
    assert Restarts(0).judge(ended(137)).why == "no restarts are allowed"


def test_what_would_fail_again_is_not_started_again() -> None:
    job = Ended(1, Standing(5, OLD, None), Standing(5, OLD, None), False, False, is_final=True)
    verdict = Restarts(5).judge(job)
    assert (verdict.exit_code, verdict.event) == (1, "gave-up")
    assert verdict.why == "a restart would not help"


def test_to_find_a_member_that_ends_its_processes_is_a_gain() -> None:
    """Two of one generation take six deaths."""
    restarts = Restarts(100)
    judged = [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1)]
    for before, after in judged:
        job = Ended(
            139, Standing(5, OLD, None, before), Standing(5, OLD, None, after), False, False
        )
        assert restarts.judge(job).event == "restart"


def test_the_first_generations_of_a_new_folder_are_a_gain() -> None:
    assert ended(137, -1, 3).gained == 3
    assert ended(137, -1, 0).gained == 0
