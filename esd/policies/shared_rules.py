"""Learning rules that synapses share: which synapse follows which rule, and rules merged by K-means.

Pedersen & Risi 2021, "Evolving and Merging Hebbian Learning Rules" (arXiv 2104.07959). Their rules are merged while
they evolve. Here every stage is a run of its own, which begins with the merged rules of the one before
(``esd train --from``): the assignment is a setting, so h, its noise and its update are those of any other run. It is
computed once, by one process, and from then on it is data (laws 3, 4 and 7).
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evolution.noise import Purpose, consecutive_words

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

MOST_RULES = 65_536
ROUNDS = 100  # of K-means, at most


def encoded(assignment: Int64s) -> str:
    """An assignment as the text of ``policy.assignment``: base64 of uint16, least byte first."""
    return base64.b64encode(assignment.astype("<u2").tobytes()).decode()


def assignment_of(text: str, connections: int, rules: int) -> Int64s:
    """The rule that each synapse follows, int64 [connections]: layer by layer, each input by input.

    Args:
        text: of ``policy.assignment``; empty: drawn at random, the same in all runs.
        connections: synapses of the network.
        rules: how many there are.

    Raises:
        UsageError: if the text is no assignment of this network.
    """
    if not text:
        words = consecutive_words(0, Purpose.SHARED_RULES, connections)[0]
        drawn: Int64s = (words % np.uint32(rules)).astype(np.int64)
        return drawn
    try:
        found = np.frombuffer(base64.b64decode(text, validate=True), "<u2").astype(np.int64)
    except (binascii.Error, ValueError):
        raise UsageError(
            "policy.assignment: is not base64 of 16-bit numbers; it is written by esd train --from RUN --set "
            "policy.rules=…"
        ) from None
    if found.size != connections or (found >= rules).any():
        raise UsageError(
            f"policy.assignment: assigns {found.size:,} synapses to {found.max(initial=-1) + 1:,} rules, but the "
            f"network has {connections:,} synapses and policy.rules = {rules:,}; use the environment, policy.hidden "
            "and policy.rules for which it was written, or remove it"
        )
    return found


def merged(vectors: Float32s, rules: int, seed: int) -> Int64s:
    """Assign synapses to so many rules by K-means (Lloyd 1982, started as k-means++).

    Args:
        vectors: each synapse's coefficients, float32 [connections, coefficients].
        rules: how many.
        seed: of the start.

    Returns:
        The rule of each, int64 [connections].
    """
    points = vectors.astype(np.float64)
    rng = np.random.default_rng(seed)
    centers = points[rng.integers(len(points), size=1)]
    nearest = _squared(points, centers[0])
    while len(centers) < rules and nearest.sum() > 0.0:
        drawn = points[rng.choice(len(points), p=nearest / nearest.sum())]
        centers = np.concatenate([centers, drawn[None]])
        nearest = np.minimum(nearest, _squared(points, drawn))
    assignment = _nearest(points, centers)
    for _ in range(ROUNDS):
        present = np.unique(assignment)  # a rule that nobody follows stays where it is
        centers[present] = means(points, assignment, len(centers))[present]
        before, assignment = assignment, _nearest(points, centers)
        if (before == assignment).all():
            break
    return assignment


def _squared(points: Float64s, center: Float64s) -> Float64s:
    """Squared distances from a center, float64 [points]."""
    found: Float64s = ((points - center) ** 2).sum(axis=1)
    return found


def _nearest(points: Float64s, centers: Float64s) -> Int64s:
    """The first of the nearest centers, int64 [points]; one center at a time: all distances would not fit memory."""
    least, found = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    for number, center in enumerate(centers):
        distances = _squared(points, center)
        closer = distances < least
        found[closer], least[closer] = number, distances[closer]
    return found


def means(points: npt.NDArray[np.floating], assignment: Int64s, rules: int) -> Float64s:
    """Each rule's mean coefficients, float64 [rules, coefficients]; 0 of one that no synapse follows.

    Summed in the order of synapses, so all ranks have the same bits.
    """
    counts = np.maximum(np.bincount(assignment, minlength=rules), 1)
    sums = [np.bincount(assignment, own.astype(np.float64), rules) for own in points.T]
    found: Float64s = np.stack(sums, axis=1) / counts[:, None]
    return found
