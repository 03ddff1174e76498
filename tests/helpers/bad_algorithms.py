"""Optimizers and algorithms of users that go wrong in one thing each."""

from __future__ import annotations

from typing import Any

import numpy as np

from esd.config.settings import EvolutionSettings
from esd.evolution.algorithm import Algorithm, AlgorithmKind, EvolutionState
from esd.evolution.noise import Noise


class Heavy:
    """A right optimizer, from which the others differ."""

    moment_names: Any = ("velocity",)

    def initial_scalars(self) -> Any:
        return {"steps": 0.0}

    def step(self, ascent: Any) -> Any:
        velocity = ascent.following["velocity"]
        velocity[...] = np.float32(0.5) * ascent.moments["velocity"] + ascent.gradient
        ascent.gradient[...] = np.float32(ascent.learning_rate) * velocity
        return {"steps": ascent.scalars["steps"] + 1.0}


class WholeNumbers(Heavy):
    """Counts with Python's and numpy's whole numbers; a right optimizer, too."""

    def initial_scalars(self) -> Any:
        return {"steps": 0, "seen": np.float32(0.5)}

    def step(self, ascent: Any) -> Any:
        super().step(ascent)
        return {"steps": int(ascent.scalars["steps"]) + 1, "seen": np.int64(3)}


class HugeNumber(Heavy):
    def step(self, ascent: Any) -> Any:
        return {**super().step(ascent), "steps": 10**400}


class RaisesInStep(Heavy):
    def step(self, ascent: Any) -> Any:
        raise KeyError("velocity")


class RaisesInScalars(Heavy):
    def initial_scalars(self) -> Any:
        raise SystemExit(4)


class RaisesInInit(Heavy):
    def __init__(self) -> None:
        raise OSError(2, "No such file")


class ReturnsNone(Heavy):
    def step(self, ascent: Any) -> Any:
        super().step(ascent)


class ForgetsScalars(Heavy):
    def step(self, ascent: Any) -> Any:
        super().step(ascent)
        return {}


class TextAsScalar(Heavy):
    def step(self, ascent: Any) -> Any:
        super().step(ascent)
        return {"steps": "one"}


class ForgetsMoments(Heavy):
    def step(self, ascent: Any) -> Any:
        ascent.gradient[...] *= np.float32(0.1)
        return {"steps": 1.0}


class ReplacesMoments(Heavy):
    def step(self, ascent: Any) -> Any:
        numbers = super().step(ascent)
        ascent.following["velocity"] = ascent.following["velocity"] + np.float32(1.0)
        return numbers


class RemovesMoments(Heavy):
    def step(self, ascent: Any) -> Any:
        numbers = super().step(ascent)
        ascent.following.clear()
        return numbers


class ReplacesMomentsLater(ReplacesMoments):
    def step(self, ascent: Any) -> Any:
        return super().step(ascent) if ascent.scalars["steps"] else Heavy.step(self, ascent)


class MomentsAsText(Heavy):
    moment_names = "velocity"


class Draws(Heavy):
    def step(self, ascent: Any) -> Any:
        numbers = super().step(ascent)
        ascent.gradient[...] *= np.float32(np.random.default_rng().random())
        return numbers


class KeepsMoments(Heavy):
    velocity = np.float32(0.0)

    def step(self, ascent: Any) -> Any:
        numbers = super().step(ascent)
        self.velocity = self.velocity + ascent.gradient
        ascent.gradient[...] = self.velocity
        return numbers


class OwnNorm(Heavy):
    """Takes the norm of what it is given for that of the whole gradient."""

    def step(self, ascent: Any) -> Any:
        ascent.gradient[...] /= np.linalg.norm(ascent.gradient)
        return super().step(ascent)


class CountsCoordinates(Heavy):
    def step(self, ascent: Any) -> Any:
        return {"steps": super().step(ascent)["steps"] * ascent.gradient.size}


class NeedsCoordinates(Heavy):
    def step(self, ascent: Any) -> Any:
        assert ascent.gradient.max() < 100.0
        return super().step(ascent)


class TakesSigma(Heavy):
    moment_names = ("sigma",)


class TakesLearningRate(Heavy):
    def initial_scalars(self) -> Any:
        return {"steps": 0.0, "learning_rate": 2.0}


class WrongName(Heavy):
    moment_names = ("speed",)


class Climb(Algorithm):
    """A right algorithm, from which the others differ."""

    def __init__(self, settings: Any, noise: Noise, population: int, reduction: str) -> None:
        self.noise = noise
        self.population, self.reduction, self.sigma = population, reduction, settings.sigma

    def start(self, h: Any) -> Any:
        return EvolutionState(0, h, {"trail": np.zeros_like(h)}, self.scalars())

    def scalars(self) -> Any:
        return {"sigma": self.sigma, "learning_rate": 1.0}

    def perturb(self, state: Any, member: int, start: int, out: Any, sums: Any) -> None:
        h = state.h[start : start + out.size]
        self.noise.perturb(h, state.sigma, member, state.generation, out, start)

    def update(self, update: Any) -> Any:
        for name, vector in update.after.items():
            vector[...] = update.before[name]
        return self.scalars()


class CountsWhole(Climb):
    """Whole numbers among its scalars; a right algorithm, too."""

    def scalars(self) -> Any:
        return {**super().scalars(), "count": 7}


class FollowsFitness(Climb):
    """Its trail is NaN after a member without fitness; a right algorithm, too."""

    def update(self, update: Any) -> Any:
        numbers = super().update(update)
        update.after["trail"][...] += np.float32(update.fitness.mean())
        return numbers


class RaisesInStart(Climb):
    def start(self, h: Any) -> Any:
        raise ValueError("no start")


class RaisesInPerturb(Climb):
    def perturb(self, *arguments: Any) -> None:
        raise AssertionError("no noise")


class RaisesInUpdate(Climb):
    def update(self, update: Any) -> Any:
        return update.after["nothing"]


class StartsWithText(Climb):
    def start(self, h: Any) -> Any:
        return "h"


class StartsWithDoubles(Climb):
    def start(self, h: Any) -> Any:
        return EvolutionState(0, h.astype(np.float64), {}, self.scalars())


class StartsWithoutSigma(Climb):
    def scalars(self) -> Any:
        return {"learning_rate": 1.0}


class ForgetsTrail(Climb):
    def update(self, update: Any) -> Any:
        update.after["h"][...] = update.before["h"]
        return self.scalars()


class ReplacesH(Climb):
    def update(self, update: Any) -> Any:
        numbers = super().update(update)
        update.after["h"] = update.before["h"] + np.ones(1)
        return numbers


class ReplacesAll(Climb):
    def update(self, update: Any) -> Any:
        update.after.update({name: vector.copy() for name, vector in update.before.items()})
        return self.scalars()


class ForgetsMembers(Climb):
    def perturb(self, *arguments: Any) -> None:
        pass


class DrawsUpdate(Climb):
    def update(self, update: Any) -> Any:
        numbers = super().update(update)
        update.after["h"][...] += np.float32(np.random.default_rng().random())
        return numbers


class RemembersMembers(Climb):
    asked = 0

    def perturb(self, state: Any, member: int, start: int, out: Any, sums: Any) -> None:
        super().perturb(state, member, start, out, sums)
        self.asked += 1
        out += np.float32(self.asked)


class ForgetsStart(Climb):
    def perturb(self, state: Any, member: int, start: int, out: Any, sums: Any) -> None:
        super().perturb(state, member, 0, out, sums)


class OwnMean(Climb):
    def update(self, update: Any) -> Any:
        numbers = super().update(update)
        update.after["h"][...] -= update.before["h"].sum()
        return numbers


class OtherSums(Climb):
    """Sums coordinates of its part only, and another number of them."""

    def update(self, update: Any) -> Any:
        for _ in range(1 + update.start // 4096):
            update.whole.norm(update.before["h"])
        return super().update(update)


class ChangesState(Climb):
    def update(self, update: Any) -> Any:
        update.before["trail"][...] += np.float32(1.0)
        return super().update(update)


class ReturnsNothing(Climb):
    def update(self, update: Any) -> Any:
        super().update(update)


def kind(build: Any) -> AlgorithmKind:
    return AlgorithmKind(EvolutionSettings, build)


CLIMB = kind(Climb)
COUNTS_WHOLE = kind(CountsWhole)
FOLLOWS_FITNESS = kind(FollowsFitness)
RAISES_IN_START = kind(RaisesInStart)
RAISES_IN_PERTURB = kind(RaisesInPerturb)
RAISES_IN_UPDATE = kind(RaisesInUpdate)
STARTS_WITH_TEXT = kind(StartsWithText)
STARTS_WITH_DOUBLES = kind(StartsWithDoubles)
STARTS_WITHOUT_SIGMA = kind(StartsWithoutSigma)
FORGETS_TRAIL = kind(ForgetsTrail)
REPLACES_H = kind(ReplacesH)
REPLACES_ALL = kind(ReplacesAll)
FORGETS_MEMBERS = kind(ForgetsMembers)
RETURNS_NOTHING = kind(ReturnsNothing)
DRAWS_UPDATE = kind(DrawsUpdate)
REMEMBERS_MEMBERS = kind(RemembersMembers)
FORGETS_START = kind(ForgetsStart)
OWN_MEAN = kind(OwnMean)
OTHER_SUMS = kind(OtherSums)
CHANGES_STATE = kind(ChangesState)
BUILDS_NOTHING = kind(lambda *arguments: None)
RAISES_WHEN_BUILT = kind(lambda *arguments: 1 / 0)
