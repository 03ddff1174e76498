"""Whether σ is large enough for h: a perturbation that is lost in float32 teaches nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from esd.config.settings import Config
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm, EvolutionState

FEW = 0.01  # of the coordinates: with fewer that change, members are all but the same
SOME = 0.5
LEVELS = 16  # distances between neighboring float32 numbers that a useful σ is worth


def changed_share(algorithm: Algorithm, state: EvolutionState) -> float:
    """The share of h's coordinates that differ between the first member and h.

    It ends early: after the first piece of h in which most of them do.
    """
    changed = seen = 0
    for first, piece in algorithm.ask_pieces(state, 0):
        h = state.h[first : first + piece.size]
        changed += int(np.count_nonzero(piece != h))
        seen += piece.size
        if changed > SOME * seen:
            break
    return changed / seen


def smallest_useful_sigma(h: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    """A σ that float32 resolves in half of h's coordinates: 16 distances to the next number, in the median."""
    return LEVELS * float(np.median(np.spacing(np.abs(h)).astype(np.float64)))


def check_perturbations(
    config: Config,
    algorithm: Algorithm,
    state: EvolutionState,
    warn: Callable[[str], None],
    setting: str = "--set es.sigma",
) -> None:
    """Refuse a σ whose perturbations are lost when they are added to h; warn of one for which most are.

    Args:
        config: with σ.
        algorithm: perturbs.
        state: with h.
        warn: is called with the warning.
        setting: how the user sets σ.

    Raises:
        UsageError: naming a σ that is large enough.
    """
    share = changed_share(algorithm, state)
    if share >= SOME:
        return
    largest = float(np.abs(state.h).max())
    count = f"only {share:.2%}" if share else "none"
    text = (
        f"es.sigma = {config.es.sigma:g}: perturbations change {count} of h's {state.h.size:,} coordinates, because "
        f"smaller changes are lost in float32 rounding next to values of up to {largest:.3g}, so members are "
        f"{'almost ' if share else ''}all equal. Use {setting}={smallest_useful_sigma(state.h):.1g} or more"
    )
    if share < FEW:
        raise UsageError(text)
    warn(f"warning: {text}")
