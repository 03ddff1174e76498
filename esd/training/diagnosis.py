"""What went wrong in a training that ended all the same: from the lines of its metrics to sentences for the user.

Pure functions. A run whose rewards never differed, or whose h became infinite, ends like any other; its numbers tell.
Each symptom is a function from a ``Course`` to a finding or None, and stands in ``SYMPTOMS``, the most telling first:
one that another explains is listed among what that one ``explains``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from esd.config.settings import Config
from esd.training.course import Course, Finding
from esd.training.no_learning import (
    growing_parameters,
    no_signal,
    no_spread,
    sigma_collapsed,
    tied_pairs,
)

__all__ = ["SYMPTOMS", "Course", "Finding", "diagnose"]

MANY_TIED = 0.8  # of the members
OFTEN = 0.5  # of the generations
FIRST_IS_TOLD = "the first failure was printed when it happened"
MANY_FAILED = 0.1  # of all members
HUGE_NORM = 1e15  # ‖h‖ beyond which squares of float32 numbers come near to infinity
ROUNDING = (
    2.0**-24
)  # half the distance between neighboring float32 numbers, as a share of the number


# what is seen of a center that makes no progress; whatever keeps it from any explains these
WITHOUT_PROGRESS = ("tied_pairs", "growing_parameters", "sigma_collapsed", "no_spread", "no_signal")


def diagnose(course: Course) -> list[Finding]:
    """What went wrong, the most telling first; nothing in a training that went well, or in one without generations."""
    if not course.generations:
        return []
    found = [finding for symptom in SYMPTOMS if (finding := symptom(course)) is not None]
    explained = {name for finding in found for name in finding.explains}
    return [finding for finding in found if finding.name not in explained]


def diverged(course: Course) -> Finding | None:
    """‖h‖ is not finite, or updates made h so large that its square soon isn't, or that sigma is lost beside it."""
    last = course.generations[-1]
    norm = last.get("h_norm", 0.0)  # without one nothing is known
    walked = sum(line.get("update_norm") or 0.0 for line in course.generations)
    by_updates = norm is not None and walked >= OFTEN * norm
    if norm is not None and norm < HUGE_NORM and not (by_updates and _sigma_is_lost(course)):
        return None
    size = "is not finite" if norm is None else f"grew to {norm:.3g}"
    return Finding(
        "diverged",
        f"The run diverged: the norm of h {size}. Use a smaller es.learning_rate, or es.weight_decay.",
        (
            "no_perturbation",
            "many_failed",
            "center_failed",
            "constant_return",
            "tied_returns",
            "no_update",
            *WITHOUT_PROGRESS,
        ),
    )


def all_failed(course: Course) -> Finding | None:
    """In the last generation no member had a fitness."""
    last = course.generations[-1]
    if last.get("return_mean") is not None or not last.get("failed_members"):
        return None
    return Finding(
        "all_failed",
        f"No member had a finite fitness in the last generation, {last['generation']}: {_why_failed(course.config)}.",
        ("many_failed", "center_failed", "no_update", *WITHOUT_PROGRESS),
    )


def many_failed(course: Course) -> Finding | None:
    """A good part of all members had no fitness."""
    failed = sum(line.get("failed_members") or 0 for line in course.generations)
    share = failed / (len(course.generations) * course.config.population)
    if share < MANY_FAILED:
        return None
    return Finding(
        "many_failed",
        f"{share:.0%} of all members had no finite fitness: {_why_failed(course.config)}.",
    )


def center_failed(course: Course) -> Finding | None:
    """The last center that was evaluated has no finite return."""
    if not course.centers or course.centers[-1].get("center_return") is not None:
        return None
    return Finding(
        "center_failed",
        f"The center h has no finite return in generation {course.centers[-1]['generation']}: "
        f"{_why_failed(course.config)}.",
    )


def constant_return(course: Course) -> Finding | None:
    """All members of every generation had the same return."""
    known = [line for line in course.generations if line.get("return_min") is not None]
    if not known or any(line["return_min"] != line["return_max"] for line in known):
        return None
    values = {line["return_min"] for line in known}
    value = f" ({known[0]['return_min']:g})" if len(values) == 1 else ""
    advice = (
        "make sure that its value depends on the parameters, or increase es.sigma"
        if course.config.objective.named
        else "make sure that the reward depends on the policy's actions, or increase es.sigma or "
        "env.episodes_per_member"
    )
    return Finding(
        "constant_return",
        f"All members had the same return{value} in every generation, so there was nothing to learn from: {advice}.",
        ("no_update", "tied_returns", *WITHOUT_PROGRESS),
    )


def tied_returns(course: Course) -> Finding | None:
    """In most generations most members had one return, and it was not the best."""
    tied = [line.get("tied_share") or 0.0 for line in course.generations]
    often = [share for share in tied if share >= MANY_TIED]
    if len(often) < OFTEN * len(tied):
        return None
    return Finding(
        "tied_returns",
        f"In {len(often)} of {len(tied)} generations at least {MANY_TIED:.0%} of the members had the same return "
        "and only a few did better, so updates depend on those few: use a reward that distinguishes members "
        "earlier, a larger population or a larger es.sigma.",
        ("tied_pairs", "no_spread", "no_signal"),
    )


def no_update(course: Course) -> Finding | None:
    """No update changed h: steps are too small for it or, as likely, both members of every pair did equally well."""
    if any(line.get("update_norm") != 0.0 for line in course.generations):
        return None
    rate = course.generations[-1].get("learning_rate", math.nan)
    begins = "Every update had length 0, so h has not changed since the start"
    if rate <= ROUNDING * _typical(course):
        return Finding(
            "no_update",
            f"{begins}: such small steps are lost in float32 rounding, so increase es.learning_rate (now {rate:g}).",
            WITHOUT_PROGRESS,
        )
    depends = (
        "its value changes with the parameters and is not symmetric around their initial values"
        if course.config.objective.named
        else "observations differ, the reward depends on what the policy does"
    )
    return Finding(
        "no_update",
        f"{begins}. Most likely the two members of each mirrored pair had the same return: make sure that "
        f"{depends}, and es.sigma (now {_sigma(course):.3g}) is not too large; otherwise, increase es.learning_rate "
        f"(now {rate:g}).",
        WITHOUT_PROGRESS,
    )


def no_perturbation(course: Course) -> Finding | None:
    """Sigma is lost when perturbations are added to h."""
    if not _sigma_is_lost(course):
        return None
    return Finding(
        "no_perturbation",
        f"The perturbations are too small for h: in float32, sigma = {_sigma(course):.3g} is lost in rounding when "
        f"added to coordinates of about {_typical(course):.3g}, so all members are equal: use a larger es.sigma.",
        ("constant_return", "no_update", "tied_returns", *WITHOUT_PROGRESS),
    )


def _sigma_is_lost(course: Course) -> bool:
    """Whether adding sigma to a typical coordinate of h changes nothing."""
    return _sigma(course) < ROUNDING * _typical(course)


def _sigma(course: Course) -> float:
    """The largest standard deviation of a coordinate in the last generation; infinite if it is not known."""
    last = course.generations[-1]
    sigma = last.get("sigma_max", last.get("sigma"))
    return math.inf if sigma is None else float(sigma)


def _typical(course: Course) -> float:
    """The root mean square of h's coordinates; 0 if it is not known."""
    norm = course.generations[-1].get("h_norm") or 0.0
    return norm / math.sqrt(course.h_size) if course.h_size else 0.0


def _why_failed(config: Config) -> str:
    """What to look at where a fitness is not finite."""
    if config.objective.named:
        return (
            f"{FIRST_IS_TOLD}. If the function raised an error, crashed or took too long, fix it; otherwise give the "
            "parameters bounds (low, high) or reduce es.sigma and es.learning_rate"
        )
    return (
        f"{FIRST_IS_TOLD}. If the environment raised an error, crashed, took too long or returned NaN or infinity, fix "
        "it; if the policy's outputs overflow, reduce es.sigma and es.learning_rate, or change policy.normalization"
    )


SYMPTOMS: tuple[Callable[[Course], Finding | None], ...] = (
    diverged,
    all_failed,
    no_perturbation,
    constant_return,
    no_update,
    tied_returns,
    tied_pairs,
    growing_parameters,
    sigma_collapsed,
    no_spread,
    no_signal,
    many_failed,
    center_failed,
)
