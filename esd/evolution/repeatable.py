"""An algorithm or optimizer of the user's own, tried before a run: the same bits from the same state, also in parts.

A run that is resumed goes on with a new object, and the ranks of a node share an update: each writes its own
coordinates. So a small vector of two blocks is updated by two objects, and then block by block. A part without a
coordinate is tried, too: a rank has it if there are more ranks than blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from esd.config.kinds import ALGORITHMS
from esd.config.settings import Config
from esd.errors import EsdError, RunError, shortened
from esd.evolution.algorithm import Algorithm, EvolutionState
from esd.evolution.guard import GuardedOptimizer
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, normals
from esd.evolution.state import make_strategy
from esd.evolution.vectors import Float32s, Float64s, Gather
from esd.kernels.reduce import REDUCTION_BLOCK

LAYOUT = Layout({"x": (REDUCTION_BLOCK + 64,)})
WHOLE = slice(0, LAYOUT.size)
PARTS = (
    slice(0, REDUCTION_BLOCK),
    slice(REDUCTION_BLOCK, LAYOUT.size),
    slice(LAYOUT.size, LAYOUT.size),
)


def check_repeatable(config: Config, algorithm: Algorithm, parts: bool = True) -> None:
    """Refuse an algorithm or optimizer of the user's that gives other bits the second time, or for a part of h.

    What can't update the small vector at all is not looked at: the first update of the run says why.

    Args:
        config: of the run.
        algorithm: of the run; it is left as it is.
        parts: also for a part of h; a run that was begun before this was looked at goes on.

    Raises:
        RunError: naming what differs.
    """
    name, optimizer = config.es.algorithm, getattr(algorithm, "optimizer", None)
    if name not in ALGORITHMS.built_in:
        trial = _Trial(config, f"es.algorithm = {shortened(repr(name))}", "update", "update.whole")
    elif isinstance(optimizer, GuardedOptimizer):
        trial = _Trial(config, optimizer.who, "step", "ascent.norm")
    else:
        return
    try:
        state = trial.begun()
        kept = _Updated(state.named(), state.scalars).bits(WHOLE)
        sums = _Sums()
        whole, member = trial.updated(state, WHOLE, sums.of_all), trial.perturbed(state, 0)
    except EsdError:
        return
    if _Updated(state.named(), state.scalars).bits(WHOLE) != kept:
        trial.refuse(
            "changes the state that it is given", "Write only into the vectors of the next state"
        )
    trial.algorithm = make_strategy(config, LAYOUT)
    if trial.updated(state, WHOLE, _Sums().of_all).bits(WHOLE) != whole.bits(WHOLE):
        trial.refuse_the_second()
    if trial.perturbed(state, 0).tobytes() != member.tobytes():
        trial.method = "perturb"
        trial.refuse_the_second()
    if parts:
        trial.check_parts(state, whole, member, sums)


@dataclass
class _Trial:
    """What is tried, and what messages say of it."""

    config: Config
    who: str
    method: str
    meeting: str
    algorithm: Algorithm = field(init=False)

    def __post_init__(self) -> None:
        self.algorithm = make_strategy(self.config, LAYOUT)

    def begun(self) -> EvolutionState:
        """The state after one update, whose vectors are not zero any more."""
        state = self.algorithm.start(normals(self.config.seed, Purpose.INITIAL_H, LAYOUT.size))
        self.perturbed(state, 0)  # as what a new object has not done, and has to do without
        return self.algorithm.tell(state, self._fitness(0))

    def _fitness(self, generation: int) -> Float64s:
        size = self.config.population
        found = normals(self.config.seed, Purpose.INITIAL_H, size, first=1 + generation)
        return found.astype(np.float64)

    def updated(self, state: EvolutionState, part: slice, gather: Gather) -> _Updated:
        """An update of a part of the coordinates."""
        after = {name: np.zeros_like(vector) for name, vector in state.named().items()}
        scalars = self.algorithm.tell_slice(state, self._fitness(1), part, after, gather)
        return _Updated(after, scalars)

    def perturbed(self, state: EvolutionState, start: int) -> Float32s:
        """The first member's coordinates from one on."""
        out = np.empty(LAYOUT.size - start, np.float32)
        self.algorithm.perturb(state, 0, start, out, self.algorithm.summed_first(state, 0))
        return out

    def check_parts(
        self, state: EvolutionState, whole: _Updated, member: Float32s, sums: _Sums
    ) -> None:
        """Compare what is made of each part of h alone with the whole."""
        for part in PARTS:
            try:
                alone = self.updated(state, part, sums.of(part))
            except EsdError as error:
                size = part.stop - part.start
                raise RunError(
                    f"{error}, for {size:,} of {LAYOUT.size:,} coordinates: ranks of a node share an update, and one "
                    "may have no coordinate at all"
                ) from error
            if alone.bits(part) != whole.bits(part) or sums.differ:
                self.refuse(
                    "gave other results for a part of h than for all of it, so h would depend on the number of ranks",
                    "Compute each coordinate of the next vectors from the same coordinate of the others; what needs "
                    f"all of h has to be a sum made by {self.meeting}",
                )
        if self.perturbed(state, REDUCTION_BLOCK).tobytes() != member[REDUCTION_BLOCK:].tobytes():
            self.method = "perturb"
            self.refuse(
                "gave other coordinates of a member for a part of h than for all of it",
                "Members are made piece by piece, and start is the coordinate of out[0]",
            )

    def refuse_the_second(self) -> NoReturn:
        """Say that a second time was unlike the first."""
        given = "gradient, moments" if self.method == "step" else "state"
        self.refuse(
            f"gave two different results for the same {given} and numbers, so the run could not be reproduced",
            "Draw no random numbers in it, and keep nothing in the object: all that evolves has to be in the vectors "
            "and the returned numbers",
        )

    def refuse(self, problem: str, advice: str) -> NoReturn:
        """Say what is wrong."""
        raise RunError(
            f"{self.who}: {self.method} {problem}. {advice}. To continue anyway: run.allow_drift = true"
        )


@dataclass(frozen=True)
class _Updated:
    """The vectors and numbers of a state."""

    vectors: dict[str, Float32s]
    scalars: dict[str, float]

    def bits(self, part: slice) -> bytes:
        """All of the numbers, and some of the coordinates."""
        vectors = (self.vectors[name][part].tobytes() for name in sorted(self.vectors))
        return repr(sorted(self.scalars.items())).encode() + b"".join(vectors)


@dataclass
class _Sums:
    """What the blocks of a whole vector gave to its sums, so that a part can be told of the others.

    Attributes:
        partials: of each sum, float64 [k, blocks].
        differ: a part has given something else.
    """

    partials: list[Float64s] = field(default_factory=list)
    differ: bool = False

    def of_all(self, partials: Float64s) -> Float64s:
        """Where all blocks meet: all of them come at once, and are kept."""
        self.partials.append(partials.copy())
        return partials

    def of(self, part: slice) -> Gather:
        """Where the blocks of a part meet the others."""
        blocks = slice(*(-(-end // REDUCTION_BLOCK) for end in (part.start, part.stop)))
        left = iter(self.partials)

        def gather(partials: Float64s) -> Float64s:
            whole = next(left, None)
            if whole is None or whole[:, blocks].tobytes() != partials.tobytes():
                self.differ = True
            if whole is None or len(whole) != len(partials):
                return np.zeros((len(partials), -(-LAYOUT.size // REDUCTION_BLOCK)))
            return whole.copy()

        return gather
