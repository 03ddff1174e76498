"""What rank 0 reports of a training while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from esd.run import metrics


@dataclass(frozen=True)
class GenerationReport:
    """One generation in numbers: a line of metrics.jsonl. Returns are per episode, before any penalty.

    Of an objective they are its values, in the user's own sign, and steps and episodes are its evaluations.
    With variants a member's return, and the center's, is the mean or the worst of those on each, by variants.reduce.

    Attributes:
        generation: t.
        return_mean: over members.
        return_std: over members.
        return_min: over members.
        return_max: over members.
        center_return: mean of the center's episodes; None in generations without.
        failed_members: how many had no finite fitness.
        tied_share: the share of members in the largest group with one return, if others did better.
        sigma: standard deviation of this generation's perturbations; if coordinates differ, the geometric mean.
        sigma_min: the smallest of a coordinate.
        sigma_max: the largest.
        learning_rate: of this generation's update.
        h_norm: ‖h‖ after the update.
        update_norm: ‖h_{t+1} − h_t‖.
        steps_per_second: environment steps per second of this generation, all ranks.
        idle_share: of the ranks' time in this generation, what they spent waiting for others to evaluate.
        generation_seconds: wall time of this generation.
        ranks: how many took part.
        env_steps: environment steps of the run so far.
        episodes: episodes of the run so far.
        seconds: wall time of the run so far.
        core_seconds: wall time × ranks so far.
        variant_returns: by variant, the mean over members; None of a variant on which none is finite.
        variant_centers: by variant, the mean of the center's episodes; None in generations without.
        tied_pairs: the share of mirrored pairs whose two members have the same fitness.
        center_std: standard deviation of the center's episodes; None with fewer than two.
        gradient_agreement: cosine between the gradients of the two halves of the population (``evolution.halves``);
            None if the algorithm doesn't show them.
        minimizes: small returns are good; not in the line.
        counts: what the steps are, for the console: "steps" or "evaluations"; not in the line.
    """

    generation: int
    return_mean: float | None
    return_std: float | None
    return_min: float | None
    return_max: float | None
    center_return: float | None
    failed_members: int
    tied_share: float
    sigma: float
    sigma_min: float
    sigma_max: float
    learning_rate: float
    h_norm: float
    update_norm: float
    steps_per_second: float
    idle_share: float
    generation_seconds: float
    ranks: int
    env_steps: int
    episodes: int
    seconds: float
    core_seconds: float
    variant_returns: dict[str, float | None]
    variant_centers: dict[str, float | None]
    tied_pairs: float | None = None
    center_std: float | None = None
    gradient_agreement: float | None = None
    minimizes: bool = False
    counts: str = "steps"

    @property
    def return_best(self) -> float | None:
        """Of the best member."""
        return self.return_min if self.minimizes else self.return_max

    def line(self) -> metrics.Line:
        """As a line of metrics.jsonl, the variants' returns as ``return_mean.NAME`` and ``center_return.NAME``."""
        line: metrics.Line = {"schema": metrics.SCHEMA}
        line |= vars(self)  # asdict copies every value, which takes longer than all the rest
        del line["minimizes"], line["counts"]
        means, centers = line.pop("variant_returns"), line.pop("variant_centers")
        return line | metrics.names_of_variants(means, centers)


class Reporter(Protocol):
    """Tells the user what happens; on rank 0 only."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def generation(self, report: GenerationReport, generations: int) -> None:
        """A generation is complete and kept."""


class News(str):
    """A note that says only how a training proceeds: ``--quiet`` leaves it out."""

    __slots__ = ()


@dataclass(frozen=True)
class Timing:
    """How long a generation took.

    Attributes:
        seconds: wall time from its start until the records were exchanged.
        busy_seconds: what all ranks together spent on evaluations.
        ranks: how many.
    """

    seconds: float
    busy_seconds: float
    ranks: int

    def idle_share(self, elapsed: float) -> float:
        """Waiting as a share of the ranks' time in the whole generation, which took ``elapsed`` seconds."""
        waited = self.seconds * self.ranks - self.busy_seconds
        return min(max(0.0, waited / (elapsed * self.ranks)), 1.0)
