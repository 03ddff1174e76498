"""What was found, in one table at the top of docs/results.md: questions with figures, seeds and p, from kept results.

Even words such as “better” are made from the figures. A question without its kept result is left out.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.freezing import frozen
from benchmarks.measuring import wilson
from benchmarks.success import is_solved
from benchmarks.tables.markdown import table

Result = dict[str, Any]
# from a kept result: the figure, the number of seeds, the range of p
Answer = tuple[str, str, str]
SURE = 0.05


def _span(values: list[float], digits: int) -> str:
    """The smallest and the largest, once if they are the same."""
    shown = [f"{value:.{digits}g}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(shown))


def versus(first: str, other: str, *, seen: bool) -> Callable[[Result], Answer]:
    """On how many variants a group is better than another one at p < 0.05, and both means.

    Args:
        first: the group that the kept comparison has the others compared with.
        other: the other one.
        seen: whether variants that were trained on are asked for, or the others.
    """

    def answer(result: Result) -> Answer:
        variants = [own for own in result["comparison"]["variants"] if own["seen"] is seen]
        means = [
            statistics.mean(own["groups"][name]["mean"] for own in variants)
            for name in (first, other)
        ]
        p = [own["tests"][other]["p_holm"] for own in variants]
        # a kept difference is the other group's mean minus the first one's
        sure = [own["tests"][other] for own in variants if own["tests"][other]["p_holm"] < SURE]
        better = sum(test["difference"] < 0.0 for test in sure)
        worse = len(sure) - better
        figure = (
            f"better on {better}, worse on {worse} of {len(variants)} variants; "
            f"mean {means[0]:.0f} and {means[1]:.0f}"
        )
        seeds = " and ".join(str(len(result["arms"][name])) for name in (first, other))
        return figure, seeds, _span(p, 2)

    return answer


def worse_direction(group: str, step: int) -> Callable[[Result], Answer]:
    """The worse of two directions, as evolved and with plasticity frozen after some steps."""

    def answer(result: Result) -> Answer:
        found = frozen(result["arms"][group])
        never, early = (statistics.mean(found[k]) for k in (0, step))
        return f"{never:.0f} steps, {early:.0f} if frozen", str(len(found[0])), "–"

    return answer


def solved(*experiments: str) -> Callable[[Result], Answer]:
    """In how many of the seeds an experiment solves its task."""

    def answer(result: Result) -> Answer:
        counts = []
        for name in experiments:
            own = result["experiments"][name]
            counts.append((sum(is_solved(r, own["limit"]) for r in own["runs"]), len(own["runs"])))
        count, of = min(counts)
        low, _ = wilson(count, of)
        each = " each" if len(counts) > 1 else ""
        least = "at least " if len(set(counts)) > 1 else ""
        return f"{least}{count} of {of}{each} (interval from {low:.0%})", str(of), "–"

    return answer


def recalled(test: str, first: str = "LSH", other: str = "GRU") -> Callable[[Result], Answer]:
    """What two policies reach in a test of memory."""

    def answer(result: Result) -> Answer:
        arms = next(own["arms"] for own in result["tests"] if own["says"] == test)
        runs = [arms[name]["runs"] for name in (first, other)]
        means = [statistics.mean(run["mean"] for run in own) for own in runs]
        return f"{means[0]:.3f} and {means[1]:.3f}", " and ".join(str(len(r)) for r in runs), "–"

    return answer


def evaluated_in(environment: str, *groups: str) -> Callable[[Result], Answer]:
    """The mean return of a single run in test episodes of an environment, and its interval.

    Args:
        environment: its name.
        groups: of one run each; a run begins where the one of the group before has ended, and the last one is meant.
    """

    def answer(result: Result) -> Answer:
        runs = [result["arms"][group][0] for group in groups]
        generations = sum(run["generations"] for run in runs)
        firsts = [found["variants"][0] for found in runs[-1]["evaluations"]]
        variant = next(own for own in firsts if own["name"] == environment)
        low, high = variant["interval_95"]
        figure = f"{variant['mean']:.0f} ({low:.0f} to {high:.0f}) after {generations} generations"
        return figure, "1", "–"

    return answer


# the question, the kept result, the answer from it, and the page's heading that has the commands
QUESTIONS: tuple[tuple[str, str, Callable[[Result], Answer], str], ...] = (
    (
        "`cartpole-hidden`: the worse direction, and with plasticity frozen after the first step",
        "cartpole-hidden",
        worse_direction("hebbian", 1),
        "cartpole-hidden-which-way-does-the-force-push",
    ),
    (
        "`cheetah-damage-quick`, trained bodies: Hebbian against static",
        "cheetah-damage-quick",
        versus("hebbian", "static", seen=True),
        "cheetah-damage-quick-damage-that-training-never-saw",
    ),
    (
        "`cheetah-damage-quick`, unseen bodies: Hebbian against static",
        "cheetah-damage-quick",
        versus("hebbian", "static", seen=False),
        "cheetah-damage-quick-damage-that-training-never-saw",
    ),
    (
        "`walker-damage-quick`, trained bodies: Hebbian against static",
        "walker-damage-quick",
        versus("hebbian", "static", seen=True),
        "walker-damage-quick-a-walker-with-a-weak-foot",
    ),
    (
        "`walker-damage-quick`, unseen bodies: Hebbian against static",
        "walker-damage-quick",
        versus("hebbian", "static", seen=False),
        "walker-damage-quick-a-walker-with-a-weak-foot",
    ),
    (
        "`ant-damage-quick`, trained bodies: Hebbian against static",
        "ant-damage-quick",
        versus("hebbian", "static", seen=True),
        "ant-damage-quick-an-ant-that-loses-a-leg",
    ),
    (
        "`ant-damage-quick`, unseen bodies: Hebbian against static",
        "ant-damage-quick",
        versus("hebbian", "static", seen=False),
        "ant-damage-quick-an-ant-that-loses-a-leg",
    ),
    (
        "`cheetah-bodies`, five unseen kinds of bodies: Hebbian against static, which normalizes its observations",
        "cheetah-bodies",
        versus("hebbian", "static", seen=False),
        "cheetah-bodies-unseen-kinds-of-bodies",
    ),
    (
        "`cheetah-bodies`, the same: Hebbian against a GRU",
        "cheetah-bodies",
        versus("hebbian", "GRU", seen=False),
        "cheetah-bodies-unseen-kinds-of-bodies",
    ),
    (
        "`cheetah-bodies`, five other bodies, the same observations for all: Hebbian against static",
        "cheetah-bodies-second",
        versus("hebbian", "static", seen=False),
        "the-same-observations-for-all-and-five-other-bodies",
    ),
    (
        "`cheetah-bodies`, the same: Hebbian against a GRU",
        "cheetah-bodies-second",
        versus("hebbian", "GRU", seen=False),
        "the-same-observations-for-all-and-five-other-bodies",
    ),
    (
        "`cheetah-bodies`, the same: Hebbian against plasticity frozen after 20 steps in training",
        "cheetah-bodies-arms",
        versus("hebbian", "frozen after 20 steps", seen=False),
        "plasticity-frozen-in-training-and-static-weights-that-see-their-last-action-and-reward",
    ),
    (
        "`cheetah-change`, five unseen changes within the episode: Hebbian against static",
        "cheetah-change",
        versus("hebbian", "static", seen=False),
        "cheetah-change-a-body-that-changes-within-the-episode",
    ),
    (
        "`cheetah-change`, the same: Hebbian against a GRU",
        "cheetah-change",
        versus("hebbian", "GRU", seen=False),
        "cheetah-change-a-body-that-changes-within-the-episode",
    ),
    (
        "`cheetah-reversed`, five unseen ways to reverse motors: Hebbian against static",
        "cheetah-reversed",
        versus("hebbian", "static", seen=False),
        "cheetah-reversed-which-way-does-each-motor-push",
    ),
    (
        "`cheetah-reversed`, the same: Hebbian against a GRU",
        "cheetah-reversed",
        versus("hebbian", "GRU", seen=False),
        "cheetah-reversed-which-way-does-each-motor-push",
    ),
    (
        "`cheetah-reversed`, the same: Hebbian against static weights that see their last action and reward",
        "cheetah-reversed-arms",
        versus("hebbian", "informed static", seen=False),
        "static-weights-that-see-their-last-action-and-reward-frozen-plasticity-and-random-rules",
    ),
    (
        "`cheetah-reversed`, the same: Hebbian against plasticity frozen after 20 steps in training",
        "cheetah-reversed-arms",
        versus("hebbian", "frozen after 20 steps", seen=False),
        "static-weights-that-see-their-last-action-and-reward-frozen-plasticity-and-random-rules",
    ),
    (
        "`cheetah-reversed`, five more ways, with another body as well: Hebbian against static",
        "cheetah-reversed-second",
        versus("hebbian", "static", seen=False),
        "cheetah-reversed-which-way-does-each-motor-push",
    ),
    (
        "`cheetah-reversed`, the same: Hebbian against a GRU",
        "cheetah-reversed-second",
        versus("hebbian", "GRU", seen=False),
        "cheetah-reversed-which-way-does-each-motor-push",
    ),
    (
        "popgym RepeatPreviousHard: LSH attention against a GRU",
        "memory-tasks",
        recalled("popgym RepeatPreviousHard"),
        "memory-tasks-lsh-attention-full-attention-a-gru-hebbian-networks",
    ),
    (
        "Recall of 10,000 pairs after training on 16: LSH attention against a GRU",
        "memory-tasks",
        recalled("associative recall, 10,000 pairs"),
        "memory-tasks-lsh-attention-full-attention-a-gru-hebbian-networks",
    ),
    (
        "Endless T-maze, 100,000 junctions: LSH attention against a GRU",
        "memory-tasks",
        recalled("endless T-maze, 100,000 junctions, 5 to 40 steps"),
        "memory-tasks-lsh-attention-full-attention-a-gru-hebbian-networks",
    ),
    (
        "Color cubes, three cubes: LSH attention against a GRU",
        "memory-tasks",
        recalled("color cubes, 5×5 cells, 3 cubes"),
        "color-cubes-what-kept-it-from-being-learned",
    ),
    (
        "In how many runs is the default experiment, `cartpole`, solved?",
        "success-rates",
        solved("cartpole"),
        "how-often-does-an-experiment-solve-its-task",
    ),
    (
        "In how many `cartpole-hidden`, `pendulum`, `repeat-previous-easy`, `-medium` and `-hard`, "
        "`associative-recall`, `t-maze`, `endless-t-maze` and `color-cubes`?",
        "success-rates",
        solved(
            "cartpole-hidden",
            "repeat-previous-easy",
            "repeat-previous-medium",
            "repeat-previous-hard",
            "associative-recall",
            "t-maze",
            "endless-t-maze",
            "color-cubes",
            "pendulum",
        ),
        "how-often-does-an-experiment-solve-its-task",
    ),
    (
        "`car-racing`: return, which is 872 in the paper",
        "car-racing",
        evaluated_in("CarRacing-v3", "standardize", "then ranks", "then standardize"),
        "car-racing-from-pixels",
    ),
    (
        "`car-racing-small`, 1,208 fixed weights: return in the original CarRacing-v3",
        "car-racing-small",
        evaluated_in("CarRacing-v3", "standardize", "standardize, finer"),
        "car-racing-small-1208-weights",
    ),
    (
        "`halfcheetah`: Gaussian noise against noise of rank 1",
        "low-rank-halfcheetah",
        versus("gaussian", "rank 1", seen=True),
        "halfcheetah",
    ),
)


def rows(results: Path) -> list[list[str]]:
    """A row of the table for each question whose result is kept in the folder."""
    found = []
    for question, file, answer, heading in QUESTIONS:
        path = results / f"{file}.json"
        if path.exists():
            figure, seeds, p = answer(json.loads(path.read_text("utf-8")))
            found.append([question, figure, seeds, p, f"[commands](#{heading})"])
    return found


def section(results: Path) -> str:
    """The table."""
    return table(["question", "figure", "seeds", "p (Holm)", "how to run it"], rows(results))
