"""Worlds that can't be solved without remembering what was seen: associative recall, a T-maze, and repeating cards.

All are compiled (see ``esd_envs.compiled``), and end by themselves. A return of 1 is perfect.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env, spaces

from esd_envs.compiled import Compiled, episode_seed
from esd_envs.kernels import memory as kernels
from esd_envs.keywords import MOST, flag, number, span, whole

Float32s = npt.NDArray[np.float32]


class WorldOfMemory(Env[Float32s, np.int64]):
    """What these worlds have in common: their ``compiled`` functions play them."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium has it
    compiled: Compiled

    def __init__(self, render_mode: str | None) -> None:
        """Begin to build it.

        Raises:
            ValueError: if it is to be drawn.
        """
        if render_mode is not None:
            raise ValueError(f"render_mode = {render_mode!r}: expected None; it is not drawn")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """Begin an episode; its first observation, float32."""
        super().reset(seed=seed)
        return self.compiled.reset(episode_seed(self, seed)), {}

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Answer with an action; where nothing is asked it does nothing."""
        observation, reward, terminated = self.compiled.step(action)
        return observation, reward, terminated, False, {}


def corridor_spaces(
    forced: bool, distractors: int
) -> tuple[spaces.Discrete, spaces.Box[np.floating[Any]]]:
    """What is done and seen in a corridor: two signs and a junction, 0 or 1, and distractors in [−1, 1].

    Args:
        forced: the agent can't walk by itself.
        distractors: how many there are.
    """
    high = np.ones(3 + distractors, np.float32)
    low = -high
    low[:3] = 0.0
    return spaces.Discrete(2 if forced else 3), spaces.Box(low, high, dtype=np.float32)


class AssociativeRecall(WorldOfMemory):
    """Pairs of a cue and a value are shown one by one; then cues are asked for their values.

    Args:
        pairs: how many are shown, one per step.
        queries: how many different cues are asked, one per step, in random order; None for all.
        values: how many there are; answering at random gives a return of 1 / values.
        cue_size: numbers of a cue, a random direction of length 1.
        cue_noise: standard deviation of what is added to each number of a cue when it is asked.
        cues: how many different ones there are, shown in turn; the newest value counts. None: as many as pairs.
    """

    def __init__(
        self,
        *,
        pairs: int = 16,
        queries: int | None = None,
        values: int = 4,
        cue_size: int = 16,
        cue_noise: float = 0.0,
        cues: int | None = None,
        render_mode: None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode)
        pairs, values = whole("pairs", pairs, 1), whole("values", values, 2)
        cues = pairs if cues is None else whole("cues", cues, 1, most=pairs)
        queries = cues if queries is None else whole("queries", queries, 1, most=cues)
        size, noise = whole("cue_size", cue_size, 1), number("cue_noise", cue_noise, zero=True)
        self.action_space = spaces.Discrete(values)
        bounds = np.ones(size + values + 1, np.float32)
        bounds[:size] += np.float32(4.0 * noise)
        least = -bounds
        least[size:] = 0.0
        self.observation_space = spaces.Box(least, bounds, dtype=np.float32)
        self.compiled = Compiled(
            kernels.reset_recall,
            kernels.step_recall,
            [pairs, cues, queries, values, size, noise],
            kernels.ORDER + cues,
            bounds.size,
            self.action_space,
        )


class RepeatPrevious(WorldOfMemory):
    """Cards are dealt one by one; at each, the suit of an earlier one is asked.

    popgym's RepeatPrevious (Morad et al. 2023, "POPGym: Benchmarking Partially Observable Reinforcement Learning"),
    with its rules, rewards and keywords, but decks shuffled by another generator. Easy is the default, Medium k = 32
    with two decks, Hard k = 64 with three.

    Args:
        num_decks: of 52 cards; an episode deals them all, and has a step less.
        k: the suit that was shown k − 1 steps ago is asked (1: the one that is shown), as soon as there was one. Right
            and wrong answers give ± 1 / (cards − k); answering at random gives a return of −0.5.
    """

    def __init__(self, *, num_decks: int = 1, k: int = 4, render_mode: None = None) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode)
        cards = 52 * whole("num_decks", num_decks, 1, most=MOST // 52)
        k = whole("k", k, 1, most=cards - 1)
        self.action_space = spaces.Discrete(kernels.SUITS)
        self.observation_space = spaces.Box(0.0, 1.0, (kernels.SUITS,), np.float32)
        self.compiled = Compiled(
            kernels.reset_repeat,
            kernels.step_repeat,
            [cards, k],
            kernels.DECK + cards,
            kernels.SUITS,
            self.action_space,
        )


class TMaze(WorldOfMemory):
    """A corridor that begins with a sign and ends at a junction; the sign says which way to turn there (Bakker 2001).

    "Reinforcement Learning with Long Short-Term Memory", whose agent also has to learn to walk: ``forced=False``.

    Args:
        length: of the corridor between the sign and the junction, in steps, or [least, most] to draw it from.
        distractors: how many numbers of an observation are random, in [−1, 1), and new in every step.
        forced: the agent walks by itself, and only has to turn.
    """

    def __init__(
        self,
        *,
        length: int | list[int] | tuple[int, int] = (5, 40),
        distractors: int = 4,
        forced: bool = True,
        render_mode: None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode)
        shortest, longest = span("length", length, 1)
        forced = flag("forced", forced)
        count = whole("distractors", distractors, 0, most=MOST)
        self.action_space, self.observation_space = corridor_spaces(forced, count)
        self.compiled = Compiled(
            kernels.reset_maze,
            kernels.step_maze,
            [shortest, longest, count, float(forced)],
            kernels.MAZE_STATE,
            3 + count,
            self.action_space,
        )

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Turn left (0) or right (1), or go forward (2, not if ``forced``); the last info has "success"."""
        observation, reward, terminated = self.compiled.step(action)
        info = {"success": reward > 0.0} if terminated else {}
        return observation, reward, terminated, False, info
