"""state_t: everything that a fitness of generation t depends on, and how one generation's records advance it.

``advance`` is all there is to a generation but for the episodes, so a run is its journal: replaying the records from
h_0 gives any h_t, bit for bit, without one episode (law 7). ``update`` does the same with the ranks of a node.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config.kinds import ALGORITHMS
from esd.config.settings import Config
from esd.errors import shortened
from esd.evolution.algorithm import Algorithm, EvolutionState
from esd.evolution.guarded_algorithm import GuardedAlgorithm
from esd.evolution.layout import Layout
from esd.evolution.low_rank import make_noise
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records

Arrays = dict[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]


@dataclass(frozen=True)
class RunState:
    """What has evolved, and what has been learned about the observations."""

    evolution: EvolutionState
    observations: ObservationStatistics

    @property
    def generation(self) -> int:
        """t, the number of updates made."""
        return self.evolution.generation

    @property
    def h(self) -> npt.NDArray[np.float32]:
        """float32 [|h|]."""
        return self.evolution.h

    def h_sha256(self) -> str:
        """SHA-256 of h as little-endian float32."""
        return hashlib.sha256(self.h.astype("<f4", copy=False).data).hexdigest()

    def sha256(self) -> str:
        """SHA-256 of everything in the state, by name."""
        digest = hashlib.sha256(str(self.generation).encode())
        for name, array in sorted(self.arrays().items()):
            little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(little_endian).data)
        return digest.hexdigest()

    def arrays(self) -> Arrays:
        """Named arrays that, with the generation, make up the whole state."""
        arrays: Arrays = {"h": self.h}
        # "moment": at first the only vectors were an optimizer's, and checkpoints keep their names
        arrays |= {f"moment.{name}": vector for name, vector in self.evolution.vectors.items()}
        arrays |= {
            f"scalar.{name}": np.array([value]) for name, value in self.evolution.scalars.items()
        }
        if self.observations.size:
            arrays["observations.count"] = np.array([self.observations.count])
            arrays["observations.sums"] = self.observations.sums
            arrays["observations.squares"] = self.observations.squares
        return arrays

    def unlike(self, other: RunState) -> str:
        """In words, where the arrays of two states differ in name, size or type; empty if they don't."""
        own, theirs = self.arrays(), other.arrays()
        for name in sorted({*own, *theirs}):
            a, b = own.get(name), theirs.get(name)
            if a is None or b is None:
                return f"{name} is {'missing' if a is None else 'not expected'}"
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                return f"{name} is {a.dtype} {list(a.shape)}, expected {b.dtype} {list(b.shape)}"
        return ""

    @classmethod
    def of_arrays(cls, generation: int, arrays: Arrays) -> RunState:
        """The inverse of ``arrays``.

        Raises:
            KeyError: if one is missing.
        """

        def named(prefix: str) -> Arrays:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        evolution = EvolutionState(
            generation,
            arrays["h"].astype(np.float32, copy=False),
            {k: v.astype(np.float32, copy=False) for k, v in named("moment.").items()},
            {k: float(v[0]) for k, v in named("scalar.").items()},
        )
        observations = ObservationStatistics.empty(0)
        if "observations.count" in arrays:
            observations = ObservationStatistics(
                float(arrays["observations.count"][0]),
                arrays["observations.sums"].astype(np.float64, copy=False),
                arrays["observations.squares"].astype(np.float64, copy=False),
            )
        return cls(evolution, observations)


def make_strategy(config: Config, layout: Layout) -> Algorithm:
    """The algorithm that a config describes, for an h that holds the arrays of a layout."""
    name = config.es.algorithm
    kind = ALGORITHMS.find(name)
    noise = make_noise(config.es.noise, config.seed, config.es.rank, layout)

    def build() -> Algorithm:
        strategy: Algorithm = kind.build(config.es, noise, config.population, config.reduction)
        return strategy

    if name in ALGORITHMS.built_in:
        return build()
    return GuardedAlgorithm(build, f"es.algorithm = {shortened(repr(name))}")


def start(strategy: Algorithm, h: npt.NDArray[np.float32], observation_size: int) -> RunState:
    """state_0 from h_0; ``observation_size`` is 0 without observation normalization."""
    return RunState(strategy.start(h), ObservationStatistics.empty(observation_size))


def observed(state: RunState, records: Records) -> ObservationStatistics:
    """The observation statistics that follow from a generation's records."""
    if not state.observations.size:
        return state.observations
    return state.observations.fold(*records.observations)


def advance(strategy: Algorithm, state: RunState, records: Records) -> RunState:
    """state_{t+1} from state_t and the records of generation t; a table without members changes nothing."""
    if not records.members:
        return state
    return RunState(
        strategy.tell(state.evolution, records.fitness(strategy.reduction)),
        observed(state, records),
    )
