"""What a user might bring: policies, wrappers and environments, good and bad."""

from __future__ import annotations

import copy
import os
import random
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from esd.evolution.layout import Layout
from esd.policies.base import Interface


class CountingPolicy:
    """A linear policy that also counts its steps."""

    squashed = False

    def __init__(self, interface: Interface) -> None:
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})
        self.count = 0

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters: np.ndarray) -> None:
        self.w = self.layout.unpack(parameters)["w"].copy()

    def reset(self, seed: int) -> None:
        self.count = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.count += 1
        return observation @ self.w + np.float32(self.count)


class LackingPolicy:
    """Not a policy."""

    def __init__(self, interface: Interface) -> None:
        self.squashed = False


class SmallModule(torch.nn.Module):
    """A torch network as anyone would write it."""

    def __init__(self, observation_size: int, action_size: int, hidden: int = 4) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(observation_size, hidden),
            torch.nn.Tanh(),
            torch.nn.Linear(hidden, action_size),
        )

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.layers(observation)


class _BySlot(torch.autograd.Function):
    """What some processors' libraries do to the last bits, on every processor: other bits in every slot and batch."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], x: torch.Tensor) -> tuple[torch.Tensor, int]:
        rows = x.movedim(in_dims[0] or 0, 0)
        slots = torch.arange(info.batch_size) + info.batch_size
        return rows * (1 + slots * 2.0**-16)[:, None], 0


class SlotModule(SmallModule):
    """Computed by a library whose bits depend on the slot and on how many there are."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return _BySlot.apply(self.layers(observation))


class RecurrentModule(torch.nn.Module):
    """A torch network with a memory that it clears itself."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.cell = torch.nn.GRUCell(observation_size, action_size)
        self.reset()

    def reset(self) -> None:
        self.state = None

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        self.state = self.cell(observation[None], self.state)
        return self.state[0]


class RandomModule(SmallModule):
    """Draws numbers while it acts."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.layers(observation) + torch.rand(1)


class BranchingModule(SmallModule):
    """Does one thing or the other, by what it sees."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.layers(observation if observation.sum() > 0 else -observation)


class PythonRandomModule(SmallModule):
    """Draws from Python's generator while it acts."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.layers(observation) * random.random()


class NumpyModule(SmallModule):
    """Leaves torch on the way."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.tanh(self.layers(observation).numpy()))


class AttentionModule(SmallModule):
    """Has a part that torch computes one after the other."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__(observation_size, action_size)
        self.attention = torch.nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        rows = observation.expand(1, 3, 4)
        attended = self.attention(rows, rows, rows, need_weights=False)[0]
        return self.layers(attended[0, 0])


class LargeModule(SmallModule):
    """More parameters than pay together."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__(observation_size, action_size, 150_000 // (observation_size + 4))


class Spaces(gymnasium.Env):
    """An environment of given spaces, which checks every action and pays the sum of its observation and the action."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        # copies, since a space has a generator of its own
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = copy.deepcopy(action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.steps += 1
        observation = self.observation_space.sample()
        flat = spaces.flatten(self.observation_space, observation)
        acted = spaces.flatten(self.action_space, action)
        paid = float(np.sum(flat)) + float(np.sum(acted * np.arange(1, len(acted) + 1)))
        return observation, paid, False, self.steps >= 5, {}


class Leaky(gymnasium.Env):
    """Breaks law 1: the reward depends on how many episodes this object has seen."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episodes += 1
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = self.episodes + self.np_random.random()
        return np.zeros(3, np.float32), reward, False, self.steps >= 5, {}


class Failing(gymnasium.Env):
    """Gives NaN rewards or raises, for members on which the episode's seed falls so.

    Args:
        how: "nan", "raise" or "pipe", another exception.
        share: of episodes.
        rank: raise only on this MPI rank; None for any.
    """

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Discrete(2)

    def __init__(self, how: str = "nan", share: float = 0.3, rank: int | None = None) -> None:
        self.how, self.share = how, share
        own = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        self.here = rank is None or rank == own

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.fails = bool(self.np_random.random() < self.share)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = float(self.np_random.random()) + float(action)
        if self.fails and self.here and self.steps == 3:
            if self.how == "raise":
                raise RuntimeError("the physics of this environment broke")
            if self.how == "pipe":
                raise BrokenPipeError("the simulator has gone")
            reward = float("nan")
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return observation, reward, False, self.steps >= 5, {}


class GlobalRandomness(gymnasium.Env):
    """Draws from Python's and numpy's global generators, as old environments do."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        import random

        self.steps += 1
        reward = random.random() + np.random.random()  # noqa: NPY002
        return np.zeros(3, np.float32), reward, False, self.steps >= 5, {}


class Shared(gymnasium.Env):
    """Keeps its physics in the class: pure while episodes follow one another, not while they are interleaved."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Discrete(2)
    physics: np.random.Generator

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        Shared.physics = np.random.default_rng(seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = float(Shared.physics.random())
        return np.zeros(3, np.float32), reward, False, self.steps >= 5, {}


class Doubled(gymnasium.RewardWrapper):
    """A wrapper: rewards times a factor."""

    def __init__(self, env: gymnasium.Env, factor: float = 2.0) -> None:
        super().__init__(env)
        self.factor = factor

    def reward(self, reward: Any) -> float:
        return float(reward) * self.factor


for _name, _class in (
    ("Leaky", Leaky),
    ("Failing", Failing),
    ("GlobalRandomness", GlobalRandomness),
    ("Shared", Shared),
    ("Spaces", Spaces),
):
    gymnasium.register(f"{_name}-v0", entry_point=_class, max_episode_steps=100)
gymnasium.register("Endless-v0", entry_point=GlobalRandomness)
