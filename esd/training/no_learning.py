"""Why a center makes no progress although everything has its numbers: symptoms for ``diagnosis.SYMPTOMS``.

Each says something only if the center's return has not improved (``improved``), or a target was missed: a run that
has converged has small perturbations and a weak gradient, too, and nothing is wrong with it.
"""

from __future__ import annotations

import math

from esd.training.course import Course, Finding

OFTEN = 0.5  # of the generations
MANY_PAIRS_TIED = 0.8
ENOUGH_GENERATIONS = 8  # for statements about averages
LUCK = 1.2  # members' returns spread so little more than the episodes of one and the same policy
GROWN = 30.0  # ‖h‖ beside what it was
COLLAPSED = 0.01  # of sigma
WELL_SEEN = 6.0  # standard deviations at which a perfect signal would stand out
SEEN = 2.5  # at which one counts as seen


def tied_pairs(course: Course) -> Finding | None:
    """In most generations both members of most pairs had one fitness, and such pairs say nothing."""
    shares = course.known("tied_pairs")
    often = [share for share in shares if share >= MANY_PAIRS_TIED]
    if len(shares) < ENOUGH_GENERATIONS or len(often) < OFTEN * len(shares) or improved(course):
        return None
    return Finding(
        "tied_pairs",
        f"In {len(often)} of {len(shares)} generations both members of at least {MANY_PAIRS_TIED:.0%} of the "
        "mirrored pairs had the same fitness, and such pairs contain no information on the gradient: use a reward "
        "that distinguishes members, a larger es.sigma, or longer episodes.",
        ("no_signal", "no_spread"),
    )


def no_spread(course: Course) -> Finding | None:
    """Members' returns spread no further than the episodes of the center alone, which are luck.

    A member's return is a mean over its episodes, whose variance is that of one of them divided by their number. Where
    a whole generation shares its episodes, or returns on variants become their worst, luck has another size.
    """
    config = course.config
    shared = config.es.common_random_numbers == "generation" or config.variants.reduce == "min"
    if shared or improved(course):
        return None
    episodes = 1 if config.objective.named else config.env.episodes_per_member
    known = [
        (line["return_std"], line["center_std"] / math.sqrt(episodes))
        for line in course.generations
        if line.get("return_std") is not None and line.get("center_std")
    ]
    close = [spread for spread, luck in known if spread <= LUCK * luck]
    if len(known) < ENOUGH_GENERATIONS or len(close) < OFTEN * len(known):
        return None
    more = "es.sigma" if config.objective.named else "es.sigma or env.episodes_per_member"
    what = "evaluations" if config.objective.named else "episodes"
    spread, luck = known[-1]
    return Finding(
        "no_spread",
        f"Members' returns vary no more (standard deviation {spread:.3g}) than the {what} of a single policy do "
        f"({luck:.3g}), so they differ by chance, not by their parameters: increase {more}, or population.",
        ("no_signal",),
    )


def no_signal(course: Course) -> Finding | None:
    """The gradients of the two halves of the population had nothing in common, where a signal would have shown.

    Without a signal their cosine has the mean 0 and the standard deviation 1/√|h|. If fitness were a linear function,
    without luck, it would be about 1/(1 + |h|/m) with m pairs in each half. Where even that is too small to be seen
    in all generations together, nothing is said.
    """
    size, found = course.h_size, course.known("gradient_agreement")
    if not size or not found or improved(course):
        return None
    best = 1.0 / (1.0 + size / max(1.0, course.config.population / 4))
    deviation = 1.0 / math.sqrt(size)
    needed = max(ENOUGH_GENERATIONS, math.ceil((WELL_SEEN * deviation / best) ** 2))
    if len(found) < needed:
        return None
    windows = [found[start : start + needed] for start in range(0, len(found), needed)]
    for window in (found, *windows):
        if sum(window) / (deviation * math.sqrt(len(window))) >= SEEN:
            return None
    mean = sum(found) / len(found)
    return Finding(
        "no_signal",
        f"The gradients of the two halves of the population are not related (mean cosine {mean:.2g} over "
        f"{len(found)} generations), so updates follow noise: increase population or the episodes per member, make "
        "sure that the return depends on the parameters, or change es.sigma (now "
        f"{course.generations[-1].get('sigma') or math.nan:.3g}).",
    )


def growing_parameters(course: Course) -> Finding | None:
    """‖h‖ grew many times, and the center is none the better for it."""
    norms = course.known("h_norm")
    if len(norms) < 2 or not norms[0] or norms[-1] < GROWN * norms[0] or improved(course):
        return None
    return Finding(
        "growing_parameters",
        f"The norm of h grew from {norms[0]:.3g} to {norms[-1]:.3g}, but the center's return did not improve: use a "
        "smaller es.learning_rate, or es.weight_decay.",
        ("no_signal", "no_spread"),
    )


def sigma_collapsed(course: Course) -> Finding | None:
    """Sigma shrank to almost nothing, and the center has not improved or has missed its target."""
    sigmas, start = course.known("sigma"), course.config.es.sigma
    if not sigmas or sigmas[-1] >= COLLAPSED * start or (improved(course) and not _missed(course)):
        return None
    reason = (
        "its target return was not reached" if improved(course) else "its return did not improve"
    )
    slower = " es.sigma_decay can be closer to 1, or es.sigma_min larger."
    adapts = course.config.es.algorithm != "openai_es"
    return Finding(
        "sigma_collapsed",
        f"Sigma shrank from {start:.3g} to {sigmas[-1]:.3g}, so the search has stopped near the center, but "
        f"{reason}: use a larger es.sigma or population."
        + (" A smaller es.sigma_learning_rate makes it shrink more slowly." if adapts else slower),
        ("no_signal", "no_spread"),
    )


def improved(course: Course) -> bool:
    """Whether the center's return is better at the end than at the start, by more than its episodes vary by luck.

    The mean over the last quarter of its evaluations is compared with that over the first; without a center, the
    members' means are.
    """
    name = "center_return"
    values = [line[name] for line in course.centers if line.get(name) is not None]
    if len(values) < 2:
        values = course.known("return_mean")
    if len(values) < 2:
        return True  # too short to say that it has not
    quarter = max(1, len(values) // 4)
    first, last = values[:quarter], values[-quarter:]
    gain: float = course.config.sign * (sum(last) / len(last) - sum(first) / len(first))
    return gain > _by_luck(course)


def _by_luck(course: Course) -> float:
    """By how much two means of the center's episodes differ by chance: two standard deviations of one."""
    deviations = course.known("center_std")
    if not deviations:
        return 0.0
    typical = sorted(deviations)[len(deviations) // 2]
    return 2.0 * typical / math.sqrt(max(1, course.config.run.center_episodes))


def _missed(course: Course) -> bool:
    """Whether there was a target that no center has reached."""
    target, sign = course.config.run.target_return, course.config.sign
    if target is None:
        return False
    values = [line.get("center_return") for line in course.centers]
    return not any(value is not None and sign * value >= sign * target for value in values)
