"""What happens inside a network in one episode: do its units saturate, do its weights grow?

Training does not look there, because episodes are played in compiled code. So ``esd show --episode`` plays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evaluation import trace
from esd.evaluation.test_episodes import choose
from esd.run.folder import RunFolder
from esd.training.course import Finding

AT_THE_LIMIT = 0.99  # of a unit whose activity lies in [−1, 1]
MANY_SATURATED = 0.9
GROWN = 100.0
SEED = 0  # of the test stream
MOST_RECORDED = 64  # sets of weights


@dataclass(frozen=True)
class Inside:
    """One test episode of the last parameters.

    Attributes:
        steps: how long it was.
        episode_return: its return.
        saturated_share: of the activities of hidden units with outputs in [−1, 1], or of the outputs without hidden
            units, those beyond ±0.99; None without any.
        weight_growth: the largest weights' root mean square of a layer at the end, beside its beginning; infinite if
            weights are not finite; None if weights stay as they are.
    """

    steps: int
    episode_return: float
    saturated_share: float | None
    weight_growth: float | None

    def as_json(self) -> dict[str, Any]:
        """For ``esd show``."""
        return {
            f"episode_{name.removeprefix('episode_')}": value for name, value in vars(self).items()
        }

    def findings(self) -> list[Finding]:
        """What looks wrong in it, and what to try."""
        found = []
        if self.weight_growth is not None and not self.weight_growth < GROWN:
            grew = (
                f"grew {self.weight_growth:,.0f}-fold"
                if np.isfinite(self.weight_growth)
                else "became infinite or NaN"
            )
            found.append(
                Finding(
                    "growing_weights",
                    f"The network's weights {grew} within one episode: set policy.normalization, or reduce es.sigma "
                    "and es.learning_rate.",
                )
            )
        if self.saturated_share is not None and self.saturated_share >= MANY_SATURATED:
            found.append(
                Finding(
                    "saturated",
                    f"{self.saturated_share:.0%} of the activities in one episode were at their limit (beyond "
                    f"±{AT_THE_LIMIT}), so units hardly distinguish observations: set env.normalize_observations, "
                    "change policy.normalization, or reduce es.sigma.",
                )
            )
        return found


def look_inside(folder: RunFolder) -> Inside:
    """Play one test episode of the last parameters, and look at its activities and weights.

    Raises:
        UsageError: if the run has no policy in an environment, or the policy can't be traced; an ``UntrustedError`` if
            the run names code that nobody has said to trust.
    """
    config = folder.config()
    if config.objective.named:
        raise UsageError(
            f"{folder.path}: is the run of an objective, which has no episodes; leave out --episode"
        )
    state = folder.last_state(config, lambda text: None)
    subject = choose(config, None, (), ())
    limit = config.env.max_steps or 1000
    arrays, words = trace.record(subject, state, SEED, every=max(1, limit // MOST_RECORDED))
    return Inside(
        int(words["steps"]), float(words["return"]), saturated_share(arrays), weight_growth(arrays)
    )


def saturated_share(arrays: Mapping[str, npt.NDArray[np.float32]]) -> float | None:
    """The share of activities at their limit, of a trace (``trace.record``)."""
    layers = [
        arrays[name] for name in sorted(arrays, key=_number) if name.startswith("activities.")
    ]
    units = layers[1:-1] or layers[1:]  # the first is what the network sees, the last what it does
    bounded = [layer for layer in units if layer.size and np.nanmax(np.abs(layer)) <= 1.0]
    if not bounded:
        return None
    at_limit = sum(int((np.abs(layer) > AT_THE_LIMIT).sum()) for layer in bounded)
    return at_limit / sum(layer.size for layer in bounded)


def weight_growth(arrays: Mapping[str, npt.NDArray[np.float32]]) -> float | None:
    """By how much the weights of a layer grew at most, of a trace; None if none changed."""
    ratios = []
    for name, steps in arrays.items():
        if not name.startswith("weights.") or not steps.size or (steps == steps[0]).all():
            continue
        sizes = np.sqrt(
            np.mean(np.square(steps, dtype=np.float64), axis=tuple(range(1, steps.ndim)))
        )
        ratio = sizes[-1] / sizes[0] if sizes[0] > 0.0 else np.inf
        ratios.append(float(ratio) if np.isfinite(ratio) else np.inf)
    return max(ratios, default=None)


def _number(name: str) -> int:
    number = name.rpartition(".")[2]
    return int(number) if number.isdecimal() else -1
