"""Compiled episodes have the bits of episodes that are stepped through Python."""

from __future__ import annotations

import ctypes
import dataclasses
import math
import random
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.canary import compute
from esd.episodes.environments import Outcome
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.errors import RunError, UsageError
from esd.evolution.layout import Layout
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.lockstep.evaluator import Lockstep
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.problems.episodes import make_player
from esd.run.journal import VERSION
from tests.helpers.configs import of_table

CART_POLE = {"id": "esd/HiddenCartPole-v0", "kwargs": {"sign": "random"}}
PENDULUM = {"id": "esd/HiddenPendulum-v0", "kwargs": {"sign": "random"}}
RECALL = {"id": "esd/AssociativeRecall-v0", "kwargs": {"pairs": 9, "cue_noise": 0.1, "cues": 7}}
MAZE = {"id": "esd/TMaze-v0", "kwargs": {"length": [1, 4], "forced": False}}
REPEAT = {"id": "esd/RepeatPrevious-v0", "kwargs": {"num_decks": 2, "k": 9}}
VARIANTS = {
    "id": "esd/HiddenCartPole-v0",
    "variants": [
        {"name": "push"},
        {"name": "pull", "kwargs": {"sign": -1}},
        {"name": "wrapped", "wrappers": [{"id": "tests.helpers.user_code:Doubled"}]},
    ],
}
SPACES = {
    "box": spaces.Box(np.float32([-1, -np.inf]), np.float32([2, 1]), dtype=np.float32),
    "two dimensions": spaces.Box(-1, 1, (2, 1), dtype=np.float32),
    "discrete": spaces.Discrete(3, start=-1),
    "several": spaces.MultiDiscrete([3, 2], start=[1, 0]),
}

RESET = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.POINTER(ctypes.c_double)] * 2,
                         ctypes.POINTER(ctypes.c_float))  # fmt: skip
STEP = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_float),
                        *[ctypes.POINTER(ctypes.c_double)] * 2, ctypes.POINTER(ctypes.c_float),
                        ctypes.POINTER(ctypes.c_double))  # fmt: skip


class Users:
    """What a user's environment may offer: C functions, here made of Python ones; a state of one number."""

    def __init__(self, actions: int, fails: bool, different: bool) -> None:
        self.parameters, self.state = np.array([0.25]), np.zeros(1)

        def reset(seed: int, parameters: Any, state: Any, observation: Any) -> int:
            state[0] = seed % 1000 / 1000
            observation[0], observation[1] = state[0], 1.0
            return 0

        def step(action: Any, parameters: Any, state: Any, observation: Any, reward: Any) -> int:
            change = math.fsum((k + 1) * action[k] for k in range(actions))
            state[0] = math.sin(3 * state[0] + parameters[0] * change)
            observation[0], observation[1] = state[0], math.cos(state[0])
            reward[0] = state[0] + (0.5 if different else 0.0)
            if fails and 0.5 < state[0] < 0.6:
                reward[0] = math.nan
            return int(abs(state[0]) > 0.999)

        self._kept = RESET(reset), STEP(step)
        self.reset_address, self.step_address = (
            ctypes.cast(function, ctypes.c_void_p).value for function in self._kept
        )


class Own(gymnasium.Env):
    """A user's environment with compiled functions, for any space of actions."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, space: str = "box", fails: bool = False, different: bool = False) -> None:
        self.action_space = SPACES[space]
        self.actions = int(np.prod(self.action_space.shape))
        self.compiled = Users(self.actions, fails, different)
        self.fails = fails

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state = seed % 1000 / 1000
        return np.float32([self.state, 1.0]), {}

    def step(self, action: Any) -> Any:
        numbers = np.ravel(action)
        change = math.fsum((k + 1) * float(numbers[k]) for k in range(self.actions))
        self.state = math.sin(3 * self.state + 0.25 * change)
        reward = math.nan if self.fails and 0.5 < self.state < 0.6 else self.state
        seen = np.float32([self.state, math.cos(self.state)])
        return seen, reward, abs(self.state) > 0.999, False, {}


gymnasium.register("Own-v0", entry_point=Own, max_episode_steps=60)
OWN = {"id": "tests.episodes.test_compiled_episodes:Own-v0"}


def both(config: Config, member: int, statistics: ObservationStatistics | None = None) -> Outcome:
    """Play a member compiled and step by step, expect the same bits, and return what it gave."""
    rollout = Rollout(config)
    assert rollout.compiled
    if statistics is not None:
        rollout.use_statistics(statistics)
    rollout.load([(0, rollout.policy.initial_parameters(member))])
    seeds = rollout.member_seeds(1, member)
    results = []
    for stepwise in (False, True, False):
        outcome = rollout.play(seeds, stepwise=stepwise)
        observed = rollout.observed(outcome)
        results.append((repr(outcome), b"" if observed is None else observed.tobytes()))
    assert results[0] == results[1] == results[2]
    return outcome


@pytest.mark.parametrize(
    "world",
    [CART_POLE, PENDULUM, VARIANTS, RECALL, MAZE, REPEAT],
    ids=["cart", "pendulum", "var", "recall", "maze", "repeat"],
)
@pytest.mark.parametrize(
    "policy",
    [
        *[
            {"kind": "hebbian", "hidden": [20, 5], "normalization": how}
            for how in ("none", "max", "l2")
        ],
        {"kind": "hebbian", "initial_weights": "coevolved", "activation": "relu"},
        {"kind": "static", "hidden": [7]},
        {"kind": "reformer", "gate": True, "units": 3},
        {"kind": "reformer", "head": "ABCD", "attention": "full"},
        {"kind": "gru", "clock": [4, 5]},
    ],
    ids=lambda policy: f"{policy['kind']} {policy.get('normalization')}",
)
@pytest.mark.parametrize("normalize", [False, True])
def test_compiled_episodes_have_the_bits_of_stepwise_ones(
    world: dict[str, Any], policy: dict[str, Any], normalize: bool
) -> None:
    env = {**world, "episodes_per_member": 3, "normalize_observations": normalize}
    config = of_table(env=env, policy=policy)
    size = Rollout(config).interface.observation_size
    learned = ObservationStatistics(10.0, np.full(size, 0.5), np.full(size, 2.0))
    outcomes = [both(config, member, learned if normalize else None) for member in range(4)]
    assert len({outcome.returns for outcome in outcomes}) > 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["hebbian", "static"])
def test_a_users_own_functions_are_played_with_actions_of_every_kind(kind: str, space: str) -> None:
    env = {**OWN, "kwargs": {"space": space}, "episodes_per_member": 4}
    config = of_table(env=env, policy={"kind": kind, "hidden": [6]})
    steps = [both(config, member).steps for member in range(6)]
    assert len(set(steps)) > 2
    assert max(steps) > 4


def test_max_steps_and_a_shorter_limit_end_a_compiled_episode() -> None:
    assert both(of_table(env=PENDULUM), 1).steps == 200
    assert both(of_table(env={**PENDULUM, "max_steps": 7}), 1).steps == 7
    rollout = Rollout(of_table(env={**PENDULUM, "max_steps": 7}))
    rollout.load([(0, rollout.policy.initial_parameters(0))])
    assert rollout.play(rollout.member_seeds(0, 0), 3).steps == 3


def test_negative_rewards_in_a_row_end_a_compiled_episode() -> None:
    assert both(of_table(env={**PENDULUM, "stop_after_negative": 21}), 1).steps == 21
    env = {**OWN, "stop_after_negative": 2, "episodes_per_member": 4}
    lengths = [both(of_table(env=env), member).steps for member in range(6)]
    unstopped = [both(of_table(env={**env, "stop_after_negative": 0}), m).steps for m in range(6)]
    assert lengths != unstopped
    assert max(lengths) > 12, "all ended at their first negative rewards"


@pytest.mark.parametrize("world", [PENDULUM, CART_POLE])
def test_an_output_that_is_not_finite_ends_a_compiled_episode(world: dict[str, Any]) -> None:
    config = of_table(env=world, policy={"kind": "static", "hidden": [4]})
    rollout = Rollout(config)
    rollout.load([(0, np.full(rollout.policy.layout.size, np.nan, np.float32))])
    for stepwise in (False, True):
        outcome = rollout.play(rollout.member_seeds(0, 0), stepwise=stepwise)
        assert (outcome.steps, outcome.status) == (0, 1)


def test_a_nan_reward_of_a_compiled_function_makes_the_member_fail() -> None:
    env = {**OWN, "kwargs": {"fails": True}}
    assert {both(of_table(env=env), member).status for member in range(6)} == {0, 1}


def test_wrappers_rebuilding_and_other_policies_are_played_step_by_step() -> None:
    assert Rollout(of_table(env=CART_POLE)).compiled
    doubled = [{"id": "tests.helpers.user_code:Doubled"}]
    assert not Rollout(of_table(env={**CART_POLE, "wrappers": doubled})).compiled
    limited = [{"id": "gymnasium.wrappers:TimeLimit", "kwargs": {"max_episode_steps": 3000}}]
    assert not Rollout(of_table(env={**CART_POLE, "wrappers": limited})).compiled
    assert not Rollout(of_table(env={**CART_POLE, "rebuild": "always"})).compiled
    assert not Rollout(of_table(env={"id": "CartPole-v1", "compiled": "never"})).compiled
    counting = parse(
        {"env": CART_POLE, "policy": {"kind": "tests.helpers.user_code:CountingPolicy"}}, "test"
    )
    assert not Rollout(counting).compiled


class Named:
    """A user's policy that calls something else its network."""

    squashed = False

    def __init__(self, interface: Interface) -> None:
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})
        self.network = "feed-forward"

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.zeros(self.layout.size, np.float32)

    def load(self, parameters: np.ndarray) -> None:
        self.w = self.layout.unpack(parameters)["w"].copy()

    def reset(self, seed: int) -> None: ...

    def act(self, observation: np.ndarray) -> np.ndarray:
        return observation @ self.w


class Contrary(HebbianPolicy):
    """A user's policy that does the opposite of what its network says."""

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface, HebbianSettings(hidden=(4,)))

    def act(self, observation: np.ndarray) -> np.ndarray:
        return -super().act(observation)


@pytest.mark.parametrize("policy", [Named, Contrary])
def test_a_users_policy_whose_network_is_not_all_of_it_is_played_step_by_step(policy: type) -> None:
    kind = f"tests.episodes.test_compiled_episodes:{policy.__name__}"
    config = parse({"env": CART_POLE, "policy": {"kind": kind}}, "test")
    assert not Rollout(config).compiled
    canary(config)


def test_the_global_generators_are_left_alone() -> None:
    rollout = Rollout(of_table(env=CART_POLE))
    rollout.load([(0, rollout.policy.initial_parameters(0))])
    random.seed(7)
    before = random.getstate()
    rollout.play(rollout.member_seeds(0, 0))
    assert random.getstate() == before
    rollout.play(rollout.member_seeds(0, 0), stepwise=True)
    assert random.getstate() != before


def canary(config: Config) -> None:
    """As at the start of a run."""
    rollout = Rollout(config)
    h0 = rollout.policy.initial_parameters(0)
    algorithm = make_strategy(config, rollout.policy.layout)
    compute(rollout, algorithm, make_player(rollout, algorithm, 1, 0), h0, VERSION)


def test_functions_that_are_not_the_environments_own_step_are_found_at_start() -> None:
    canary(of_table(env=OWN))
    with pytest.raises(RunError, match="own step give different results"):
        canary(of_table(env={**OWN, "kwargs": {"different": True}}))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        (
            "parameters",
            np.zeros(2, np.float32),
            r"compiled.parameters is float32 \[2\], expected a float64",
        ),
        ("state", [0.0], r"compiled.state is \[0.0\], expected a float64 vector"),
        ("step_address", None, "compiled.step_address is None, expected the address"),
        ("reset_address", 0, "compiled.reset_address is 0, expected the address"),
        ("state", np.zeros(4)[::2], "compiled.state has to be contiguous and writable"),
        ("parameters", np.zeros(2)[::-1], "compiled.parameters has to be contiguous"),
        ("state", np.broadcast_to(0.0, 1), "compiled.state has to be contiguous and writable"),
    ],
)
def test_an_offer_that_cannot_be_called_is_a_clear_error(
    attribute: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Users.__init__

    def changed(self: Users, *arguments: Any) -> None:
        original(self, *arguments)
        setattr(self, attribute, value)

    monkeypatch.setattr(Users, "__init__", changed)
    with pytest.raises(UsageError, match=message):
        Rollout(of_table(env=OWN))


def test_an_offer_without_a_state_is_refused_but_something_else_of_that_name_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Users.__init__

    def without_state(self: Users, *arguments: Any) -> None:
        original(self, *arguments)
        del self.state

    monkeypatch.setattr(Users, "__init__", without_state)
    with pytest.raises(UsageError, match=r"compiled\.state is None, expected a float64 vector"):
        Rollout(of_table(env=OWN))
    monkeypatch.setattr(Own, "compiled", True, raising=False)
    monkeypatch.setattr(
        Own,
        "__setattr__",
        lambda self, key, value: key == "compiled" or object.__setattr__(self, key, value),
    )
    assert not Rollout(of_table(env=OWN)).compiled


def test_lockstep_steps_through_python_and_has_the_same_bits() -> None:
    config = of_table(env={**CART_POLE, "episodes_per_member": 2}, population=8)
    rollout = Rollout(config)
    state = start(
        make_strategy(config, rollout.policy.layout), rollout.policy.initial_parameters(0), 0
    )
    tables = []
    for evaluator in (
        OneByOne(rollout, make_strategy(config, rollout.policy.layout)),
        Lockstep(
            Rollout(dataclasses.replace(config, batch_members=3)),
            make_strategy(config, rollout.policy.layout),
            1,
            torch.device("cpu"),
        ),
    ):
        records = Records(8, 2, 0)
        evaluator.fill(state, iter(range(10)), records)
        tables.append(records.table.copy())
        evaluator.close()
    np.testing.assert_array_equal(tables[0], tables[1])
