"""A network that is asked directly acts as the policy does, bit for bit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Status
from tests.helpers.configs import of_table

SEEDS = [EpisodeSeeds(k, k) for k in range(3)]


class Shows(gym.Env[Any, Any]):
    """Shows what it is told to at its fifth step, and numbers that depend on the actions before."""

    def __init__(self, dtype: str = "f4", fifth: str = "", choices: int = 0) -> None:
        """Prepare."""
        self._dtype, self._fifth = np.dtype(dtype), fifth
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.dtype(dtype).type)
        self.action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2,), np.float32)
        if choices:
            self.action_space = spaces.Discrete(choices, start=2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin."""
        super().reset(seed=seed)
        self._steps, self._sum = 0, 0.0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Go on."""
        assert self.action_space.contains(action)
        self._steps += 1
        self._sum += float(np.sum(action))
        seen: Any = self._seen()
        if self._steps == 5 and self._fifth:
            odd = {"shape": np.zeros(4), "list": seen.tolist(), "other float": seen.astype("f8")}
            seen = odd.get(self._fifth, seen)
            if self._fifth not in odd:
                seen[1] = float(self._fifth)
        return seen, self._sum, self._steps == 9, False, {}

    def _seen(self) -> Any:
        return (self.np_random.uniform(-2, 2, 3) + 0.01 * self._sum).astype(self._dtype)


gym.register("EsdTestShows-v0", Shows, max_episode_steps=30)


def shows(**kwargs: Any) -> dict[str, Any]:
    return {"id": "EsdTestShows-v0", "kwargs": kwargs}


def rollout_of(env: dict[str, Any], policy: dict[str, Any], normalize: bool = False) -> Rollout:
    env = {**env, "compiled": "never", "normalize_observations": normalize}
    rollout = Rollout(of_table(env=env, policy={"hidden": [6], **policy}))
    if normalize:
        size = rollout.interface.observation_size
        learned = ObservationStatistics(10.0, np.full(size, 0.5), np.full(size, 9.0))
        rollout.use_statistics(learned)
    return rollout


def played(rollout: Rollout, h: Any, stepwise: bool) -> tuple[Any, str, bytes]:
    rollout.load([(0, h)])
    outcome = rollout.play(SEEDS, 40, stepwise)
    return outcome, outcome.failure, rollout.environments.sums_of_observations()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "policy",
    [{"kind": "static"}, {"kind": "hebbian", "output": "raw"}, {"kind": "hebbian", "hidden": [5, 4]}],
    ids=["static", "raw", "hebbian"],
)  # fmt: skip
@pytest.mark.parametrize(
    "env",
    [
        {"id": "CartPole-v1"},
        {"id": "Pendulum-v1"},
        shows(choices=3),
        shows(dtype="f8"),
        shows(fifth="list", choices=2),
        shows(fifth="other float"),
        shows(fifth="nan"),
        shows(fifth="inf", dtype="f8"),
        shows(fifth="1e300", dtype="f8"),
    ],
    ids=lambda env: "-".join(map(str, (env["id"], *env.get("kwargs", {}).values()))),
)
def test_the_bits_are_those_of_asking_the_policy(
    env: dict[str, Any], policy: dict[str, Any], normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = rollout_of(env, policy, normalize)
    h = rollout.policy.initial_parameters(4)
    asked = played(rollout, h, True)
    double = normalize and env.get("kwargs", {}).get("dtype") == "f8"
    if not double:  # which no float32 holds

        def act(observation: Any) -> Any:
            raise AssertionError("the policy was asked")

        monkeypatch.setattr(rollout.policy, "act", act)
    assert played(rollout, h, False) == asked
    fails = env.get("kwargs", {}).get("fifth") in ("nan", "inf") or (
        env.get("kwargs", {}).get("fifth") == "1e300" and not double
    )
    assert (asked[0].status is Status.NOT_FINITE) == fails


def test_outputs_that_are_not_finite_fail_as_if_the_policy_was_asked() -> None:
    for env in (shows(choices=3), shows()):
        rollout = rollout_of(env, {"kind": "static"})
        h = np.full(rollout.policy.layout.size, np.nan, np.float32)
        asked = played(rollout, h, True)
        assert asked[0].status is Status.NOT_FINITE
        assert played(rollout, h, False) == asked
        finite = rollout.policy.initial_parameters(0)
        assert played(rollout, finite, False) == played(rollout, finite, True), "the next one"


def test_an_observation_that_does_not_fit_is_refused_in_the_same_words() -> None:
    rollout = rollout_of(shows(fifth="shape"), {"kind": "hebbian"})
    h = rollout.policy.initial_parameters(0)
    texts = []
    for stepwise in (True, False):
        with pytest.raises(BrokenEnvironmentError, match="step 5") as caught:
            played(rollout, h, stepwise)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_every_generation_is_normalized_by_its_own_statistics() -> None:
    rollout = rollout_of({"id": "Pendulum-v1"}, {"kind": "static"}, normalize=True)
    h, found = rollout.policy.initial_parameters(0), []
    for generation in range(3):
        size = rollout.interface.observation_size
        learned = ObservationStatistics(10.0, np.full(size, 1.0 + generation), np.full(size, 30.0))
        rollout.use_statistics(learned)
        asked = played(rollout, h, True)
        assert played(rollout, h, False) == asked
        found.append(asked[0].returns)
    assert len(set(found)) == 3, "the statistics matter"
