"""The first table of docs/results.md says what the kept results say."""

from __future__ import annotations

from typing import Any

from benchmarks import findings


def compared(*tests: tuple[float, float]) -> dict[str, Any]:
    """A kept comparison of a and b on variants that were trained on, and on one that was not."""
    variants = [
        {
            "seen": True,
            "groups": {"a": {"mean": 10.0}, "b": {"mean": 10.0 + difference}},
            "tests": {"b": {"difference": difference, "p_holm": p}},
        }
        for difference, p in tests
    ]
    unseen = {**variants[0], "seen": False}
    return {"arms": {"a": [0, 0, 0], "b": [0, 0]}, "comparison": {"variants": [*variants, unseen]}}


def test_a_group_is_better_or_worse_only_where_the_difference_is_significant() -> None:
    kept = compared((-4.0, 0.01), (-8.0, 0.3), (5.0, 0.04), (7.0, 0.9))
    figure, seeds, p = findings.versus("a", "b", seen=True)(kept)
    assert figure == "better on 1, worse on 1 of 4 variants; mean 10 and 10"
    assert (seeds, p) == ("3 and 2", "0.01 to 0.9")
    figure, _, p = findings.versus("a", "b", seen=False)(kept)
    assert (figure, p) == ("better on 1, worse on 0 of 1 variants; mean 10 and 6", "0.01")


def test_of_several_experiments_the_one_that_is_solved_least_often_counts() -> None:
    def runs(solved: int) -> dict[str, Any]:
        returns = [1.0] * solved + [0.5] * (4 - solved)
        return {"limit": 0.9, "runs": [{"returns": {"": value}} for value in returns]}

    kept = {"experiments": {"x": runs(4), "y": runs(3)}}
    assert findings.solved("x", "y")(kept)[0] == "at least 3 of 4 each (interval from 30%)"
    assert findings.solved("x")(kept)[0] == "4 of 4 (interval from 51%)"
