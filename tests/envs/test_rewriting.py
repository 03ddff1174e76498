"""The endless T-maze and color cubes, whose memory has to be rewritten."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

import esd_envs
from esd.episodes.rollout import Rollout
from tests.helpers.configs import of_table
from tests.helpers.oracles import rewriting as oracle

gymnasium.register_envs(esd_envs)
MAZE, CUBES = "esd/EndlessTMaze-v0", "esd/ColorCubes-v0"
Act = Callable[[np.ndarray], int]

MAZES: dict[str, dict[str, Any]] = {
    "default": {},
    "one junction": {"junctions": 1, "length": 3},
    "fixed lengths": {"junctions": 7, "length": 5, "distractors": 0},
    "stops": {"junctions": 5, "length": [2, 3], "stop_at_error": True},
    "walking": {"junctions": 4, "length": [1, 4], "forced": False},
    "walking, stops": {"junctions": 3, "length": 2, "forced": False, "stop_at_error": True},
}
GRIDS: dict[str, dict[str, Any]] = {
    "default": {},
    "trivial": {"cubes": 1, "targets": 1, "colors": 3},
    "restless": {"teleport": 1.0, "cubes": 4, "targets": 6},
    "all places": {"updates": "all", "teleport": 0.3, "colors": 5},
    "hidden colors": {"updates": "positions", "teleport": 0.3, "cubes": 4},
    "crowded": {"size": 2, "cubes": 3, "targets": 8, "teleport": 0.5},
    "drawn colors": {"random_colors": True, "cubes": 2, "colors": 4, "teleport": 0.4},
    "drawn colors, all places": {"random_colors": True, "updates": "all", "colors": 5},
    "drawn colors, hidden": {"random_colors": True, "updates": "positions", "colors": 4},
    "large": {"size": 13, "cubes": 20, "targets": 3, "patience": 9},
}
SEEDS = (*range(12), 2**31 - 1, 2**63 + 11)


def maze_oracle(seed: int, **kwargs: Any) -> oracle.EndlessTMaze:
    """The oracle's maze with the keywords of the environment."""
    length = kwargs.get("length", (1, 10))
    return oracle.EndlessTMaze(
        seed,
        kwargs.get("junctions", 10),
        (length, length) if isinstance(length, int) else tuple(length),
        kwargs.get("distractors", 4),
        kwargs.get("forced", True),
        kwargs.get("stop_at_error", False),
    )


def cubes_oracle(seed: int, **kwargs: Any) -> oracle.ColorCubes:
    """The oracle's grid with the keywords of the environment."""
    size, cubes = kwargs.get("size", 5), kwargs.get("cubes", 3)
    return oracle.ColorCubes(
        seed,
        size,
        cubes,
        kwargs.get("colors", cubes),
        kwargs.get("targets", 10),
        kwargs.get("patience", 2 * (size - 1)),
        kwargs.get("teleport", 0.1),
        kwargs.get("updates", "one"),
        kwargs.get("random_colors", False),
    )


def compare(env: gymnasium.Env, world: Any, seed: int, act: Callable[..., int]) -> None:
    """Play an episode in both, and find no difference."""
    observation, info = env.reset(seed=seed)
    np.testing.assert_array_equal(observation, world.observation)
    rng, over = np.random.default_rng(seed % 2**32), False
    while not over:
        assert env.observation_space.contains(observation)
        assert info == {}
        action = act(world, rng)
        observation, reward, over, truncated, info = env.step(action)
        expected, paid, ended = world.step(action)
        np.testing.assert_array_equal(observation, expected)
        assert (reward, over, truncated) == (paid, ended, False)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("careless", [0.0, 0.3])
@pytest.mark.parametrize("name", MAZES)
def test_the_maze_shows_and_pays_what_the_oracle_says_bit_for_bit(
    name: str, careless: float
) -> None:
    kwargs = MAZES[name]
    env = gymnasium.make(MAZE, **kwargs)

    def act(world: Any, rng: np.random.Generator) -> int:
        if rng.random() < careless:
            return int(rng.integers(env.action_space.n))
        if world.observation[2]:
            return world.signs[world.corridor]
        return 0 if kwargs.get("forced", True) else 2

    for seed in SEEDS:
        world = maze_oracle(seed, **kwargs)
        compare(env, world, seed, act)
        right = int(env.unwrapped.compiled.state[8])
        assert right == world.right
        assert careless or right == kwargs.get("junctions", 10)


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_shows_and_pays_what_the_oracle_says_bit_for_bit(name: str) -> None:
    kwargs = GRIDS[name]
    env = gymnasium.make(CUBES, **kwargs)

    def act(world: Any, rng: np.random.Generator) -> int:
        if rng.random() < 0.3:
            return int(rng.integers(4))
        return towards(world.agent, world.where[world.target])

    for seed in SEEDS:
        world = cubes_oracle(seed, **kwargs)
        compare(env, world, seed, act)
        assert int(env.unwrapped.compiled.state[5]) == world.found


def towards(here: Any, there: Any) -> int:
    """A move that comes nearer."""
    rows, columns = there[0] - here[0], there[1] - here[1]
    if abs(rows) >= abs(columns):
        return 1 if rows > 0 else 0
    return 3 if columns > 0 else 2


def play(env: gymnasium.Env, seed: int, act: Act) -> tuple[float, int, dict[str, Any]]:
    """Return, steps and last info of an episode."""
    observation, info = env.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over:
        observation, reward, over, _, info = env.step(act(observation))
        total += reward
        steps += 1
    return total, steps, info


@pytest.mark.parametrize("forced", [True, False])
def test_with_one_junction_it_is_the_t_maze(forced: bool) -> None:
    kwargs = {"length": [3, 9], "forced": forced}
    endless = gymnasium.make(MAZE, junctions=1, **kwargs)
    single = gymnasium.make("esd/TMaze-v0", **kwargs)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        one, other = endless.reset(seed=seed)[0], single.reset(seed=seed)[0]
        over = False
        while not over:
            np.testing.assert_array_equal(one, other)
            action = int(rng.integers(2)) if forced or rng.random() < 0.1 else 2
            one, reward, over, _, info = endless.step(action)
            other, *theirs, their_info = single.step(action)
            assert [reward, over, False] == theirs
        np.testing.assert_array_equal(one, other)
        assert info["success"] == their_info["success"]


def last_sign(first_only: bool = False) -> Act:
    """Turns as the newest sign tells; or as the first one does, for ever."""
    sign: list[int] = []

    def act(observation: np.ndarray) -> int:
        if observation[:2].any():
            sign.append(int(observation[:2].argmax()))
        return sign[0 if first_only else -1]

    return act


def near(returns: list[float], expected: float) -> bool:
    """Whether their mean is within five standard errors."""
    return abs(np.mean(returns) - expected) < 5 * np.std(returns) / math.sqrt(len(returns))


@pytest.mark.parametrize("junctions", [1, 2, 10])
def test_what_a_maze_gives_to_who_rewrites_keeps_or_forgets(junctions: int) -> None:
    env = gymnasium.make(MAZE, junctions=junctions, length=[1, 3])
    n, rng = junctions, np.random.default_rng(0)
    perfect = [play(env, seed, last_sign()) for seed in range(50)]
    assert all(total == pytest.approx(1.0) and info["success"] for total, _, info in perfect)
    # without memory nothing at a junction tells its sign, and every turn is right with probability 1/2
    for act in (lambda _: 0, lambda _: 1, lambda _: rng.integers(2), lambda o: int(o[3] > 0)):
        assert near([play(env, seed, act)[0] for seed in range(1000)], 1 / 2)
    # a memory that is never rewritten is right at the first junction, then by chance
    kept = [play(env, seed, last_sign(first_only=True))[0] for seed in range(1000)]
    assert np.mean(kept) == 1.0 if n == 1 else near(kept, (n + 1) / (2 * n))
    # the paper's rule: the k-th junction is reached and passed with probability 2^-k
    env = gymnasium.make(MAZE, junctions=n, length=[1, 3], stop_at_error=True)
    assert near([play(env, seed, lambda _: 0)[0] for seed in range(1000)], (1 - 0.5**n) / n)
    assert all(play(env, seed, last_sign())[2]["success"] for seed in range(20))


def test_lengths_and_signs_of_corridors_are_uniform_and_independent() -> None:
    env = gymnasium.make(MAZE, junctions=400, length=[2, 5], distractors=0).unwrapped
    lengths, signs = [], []
    for seed in range(20):
        env.reset(seed=seed)
        over, corridor = False, -1
        while not over:
            if env.compiled.state[7] > corridor:
                corridor += 1
                lengths.append(env.compiled.state[3])
                signs.append(env.compiled.state[2])
            over = env.step(0)[2]
    counts = np.bincount(np.int64(lengths), minlength=6)
    assert counts[:2].sum() == 0
    assert np.abs(counts[2:] - 2000).max() < 5 * math.sqrt(1500)
    assert abs(np.mean(signs) - 0.5) < 5 * 0.5 / math.sqrt(8000)
    together = np.corrcoef([lengths[1:], lengths[:-1], signs[1:], signs[:-1]])
    assert np.abs(together - np.eye(4)).max() < 5 / math.sqrt(8000)


class Rememberer:
    """Keeps where each color was seen last (or first), and walks there."""

    def __init__(self, colors: int, updates: str = "one", rewrite: bool = True) -> None:
        self._colors, self._updates, self._rewrite = colors, updates, rewrite
        self._where: dict[int, Any] = {}

    def _update(self, color: np.ndarray, places: np.ndarray, flag: float) -> None:
        if self._updates == "one":
            seen = {int(color.argmax()): tuple(places[0])}
        elif flag > 0:
            seen = {i: tuple(place) for i, place in enumerate(places)}
        else:  # the cube whose place is gone is now where none was
            now, before = set(map(tuple, places)), set(self._where.values())
            moved = [i for i, place in self._where.items() if place not in now]
            seen = dict(zip(moved, now - before, strict=True))
        for i, place in seen.items():
            if self._rewrite or i not in self._where:
                self._where[i] = place

    def __call__(self, observation: np.ndarray) -> int:
        color, rest = observation[: self._colors], observation[self._colors :]
        places, flag, agent = rest[:-3].reshape(-1, 2), rest[-3], rest[-2:]
        if flag:
            self._update(color, places, flag)
            return 0
        return towards(agent, self._where[int(color.argmax())])


@pytest.mark.parametrize("updates", ["one", "all", "positions"])
def test_who_remembers_what_moved_last_finds_every_cube(updates: str) -> None:
    env = gymnasium.make(CUBES, updates=updates, teleport=0.3, cubes=4)
    for seed in range(30):
        total, steps, info = play(env, seed, Rememberer(4, updates))
        assert total == pytest.approx(1.0)
        assert info == {"found": 10, "success": True}
        assert steps < 4 + 10 * (2 * 8 + 1)


def test_who_remembers_what_was_seen_first_finds_some_of_them() -> None:
    env = gymnasium.make(CUBES)
    kept = [play(env, seed, Rememberer(3, rewrite=False))[0] for seed in range(200)]
    assert 0.15 < np.mean(kept) < 0.55


def moves(size: int) -> np.ndarray:
    """To which cell each of the four actions leads from each cell, [cells, 4]."""
    cells = list(itertools.product(range(size), repeat=2))
    lead = []
    for row, column in cells:
        ways = [(row + r, column + c) for r, c in oracle.MOVED_BY]
        lead.append([cells.index(way if way in cells else (row, column)) for way in ways])
    return np.array(lead)


def share_found(reactions: Any, size: int, patience: int) -> float:
    """How many targets a fixed reaction to each cell finds, of all pairs of a start and another cell."""
    lead, found = moves(size), 0
    for start in range(size * size):
        at, visited = start, set()
        for _ in range(patience):
            at = lead[at, reactions[at]]
            visited.add(int(at))
        found += len(visited - {start})
    return found / (size * size * (size * size - 1))


# a way around a grid of 4 × 4 that enters every cell once: down the first column, then back in rows from right to left
AROUND = [3, 3, 3, 1, 0, 1, 2, 2, 0, 3, 3, 1, 0, 2, 2, 2]


def test_what_a_grid_gives_at_best_without_memory() -> None:
    """Where nothing is shown only the agent's cell and the target's color are, and the target is anywhere else."""
    for patience in (1, 2, 3):  # every policy there is
        best = max(share_found(r, 2, patience) for r in itertools.product(range(4), repeat=4))
        assert best == pytest.approx(patience / 3)
    for patience in (
        1,
        6,
        15,
    ):  # a way that enters every cell: no more can be entered in so many moves
        assert share_found(AROUND, 4, patience) == pytest.approx(patience / 15)
    env = gymnasium.make(CUBES, size=4, teleport=0.0)

    def around(observation: np.ndarray) -> int:
        row, column = np.round((observation[-2:] + 0.5) * 3).astype(int)
        return AROUND[4 * row + column]

    assert near([play(env, seed, around)[0] for seed in range(800)], 6 / 15)


@pytest.mark.parametrize(("cubes", "targets"), [(1, 1), (3, 10)])
def test_what_a_grid_gives_to_random_moves(cubes: int, targets: int) -> None:
    lead, size, patience, expected = moves(5), 5, 8, 0.0
    for target in range(size * size):
        chance = np.ones(size * size)
        chance[target] = 0.0
        chance /= chance.sum()
        for _ in range(patience):
            after = np.zeros(size * size)
            np.add.at(after, lead, chance[:, None] / 4)
            expected += after[target] / (size * size)
            after[target] = 0.0
            chance = after
    env = gymnasium.make(CUBES, cubes=cubes, targets=targets, teleport=0.0)
    rng = np.random.default_rng(0)
    returns = [play(env, s, lambda _: rng.integers(4))[0] for s in range(6000 // targets)]
    assert near(returns, expected)
    assert expected == pytest.approx(0.1775, abs=5e-5)


def test_cells_targets_and_teleports_are_uniform() -> None:
    env = gymnasium.make(CUBES, cubes=3, targets=40, teleport=0.25, patience=4).unwrapped
    places, wanted, agents = np.zeros(25), np.zeros(3), np.zeros(25)
    moved, teleports, pairs = 0, 0, np.zeros((3, 3))
    for seed in range(150):
        env.reset(seed=seed)
        state = env.compiled.state
        agents[int(state[7])] += 1
        over = False
        while not over:
            phase, target, before = int(state[4]), int(state[6]), state[10:13].copy()
            shown = state[8] >= 0
            over = env.step(3 * (seed % 2))[2]
            if shown or over:
                continue
            if int(state[4]) > phase:
                pairs[target, int(state[6])] += 1
                places[int(state[10 + target])] += 1
                continue
            moved += 1
            changed = np.flatnonzero(before != state[10:13])
            teleports += changed.size
            assert target not in changed
            wanted[target] += 1
    assert abs(teleports / moved - 0.25) < 5 * math.sqrt(0.1875 / moved)
    assert (np.diag(pairs) == 0).all()
    off = pairs[~np.eye(3, dtype=bool)]
    assert np.abs(off - off.sum() / 6).max() < 5 * math.sqrt(off.sum() / 6)
    assert np.abs(agents - 6).max() < 5 * math.sqrt(6)
    assert np.abs(places - places.sum() / 25).max() < 5 * math.sqrt(places.sum() / 25)


@pytest.mark.parametrize(("cubes", "random_colors"), [(1, True), (3, True), (2, False)])
def test_every_color_is_drawn_as_often_or_the_first_ones_always(
    cubes: int, random_colors: bool
) -> None:
    kwargs = {"cubes": cubes, "colors": 4, "random_colors": random_colors}
    env = gymnasium.make(CUBES, **kwargs)
    counts, together = np.zeros(4), np.zeros((4, 4))
    for seed in range(600):
        observation, _ = env.reset(seed=seed)
        shown = []
        for _ in range(cubes):  # an episode begins with an update of each cube
            shown.append(int(observation[:4].argmax()))
            observation = env.step(0)[0]
        assert len(set(shown)) == cubes
        assert int(observation[:4].argmax()) in shown  # the first target
        counts[shown] += 1
        together[np.ix_(shown[:1], shown[1:])] += 1
    if random_colors:
        share = cubes / 4
        assert np.abs(counts - 600 * share).max() < 5 * math.sqrt(600 * share * (1 - share))
        off = together[~np.eye(4, dtype=bool)]
        assert np.abs(off - off.mean()).max() <= 5 * math.sqrt(off.mean())
    else:
        np.testing.assert_array_equal(counts, [600, 600, 0, 0])


def test_100_000_junctions_are_not_cut() -> None:
    for id, kwargs, steps in (
        (MAZE, {"junctions": 100_000, "length": 3}, 500_000),
        (CUBES, {"cubes": 1, "targets": 1, "patience": 10_000}, None),
    ):
        config = of_table(env={"id": id, "kwargs": kwargs}, policy={"kind": "static"})
        rollout = Rollout(config)
        assert rollout.compiled
        rollout.load([(0, rollout.policy.initial_parameters(0))])
        assert steps in (None, rollout.play(rollout.member_seeds(0, 0)).steps)
        rollout.close()


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        (MAZE, {"length": 1, "junctions": 3}),
        (MAZE, {"length": 2, "junctions": 2, "forced": False}),
        (MAZE, {"length": 2, "stop_at_error": True}),
        (CUBES, {"targets": 2}),
        (CUBES, {"targets": 2, "updates": "positions"}),
    ],
)
def test_steps_behind_the_end_do_nothing(id: str, kwargs: dict[str, Any]) -> None:
    env = gymnasium.make(id, **kwargs).unwrapped
    env.reset(seed=1)
    while not env.step(0)[2]:
        pass
    state = env.compiled.state.copy()
    for _ in range(5):
        assert env.step(1)[1:3] == (0.0, True)
        np.testing.assert_array_equal(env.compiled.state, state)


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (MAZE, {"junctions": 0}, "junctions = 0: expected a whole number from 1 to 8,333,333"),
        (MAZE, {"junctions": 10**9}, "junctions = 1000000000: expected a whole number from 1 to"),
        (MAZE, {"junctions": 2, "length": 10**7, "forced": True}, None),
        (MAZE, {"junctions": 2.0}, "junctions = 2.0"),
        (MAZE, {"length": [4, 2]}, "length = 2: expected a whole number from 4"),
        (MAZE, {"length": [1, 2, 3]}, r"length = \[1, 2, 3\]: expected a whole number or"),
        (MAZE, {"distractors": -1}, "distractors = -1"),
        (MAZE, {"forced": "no"}, "forced = 'no': expected true or false"),
        (MAZE, {"stop_at_error": 1}, "stop_at_error = 1: expected true or false"),
        (CUBES, {"size": 1}, "size = 1: expected a whole number from 2 to 1,000"),
        (CUBES, {"cubes": 25}, "cubes = 25: expected a whole number from 1 to 24"),
        (CUBES, {"cubes": 3, "colors": 2}, "colors = 2: expected a whole number from 3"),
        (CUBES, {"targets": 0}, "targets = 0: expected a whole number from 1 to 5,882,352"),
        (CUBES, {"patience": 0}, "patience = 0: expected a whole number from 1"),
        (CUBES, {"teleport": 1.5}, "teleport = 1.5: expected a number from 0 to 1"),
        (CUBES, {"teleport": float("nan")}, "teleport = nan: expected a number from 0 to 1"),
        (CUBES, {"teleport": True}, "teleport = True"),
        (CUBES, {"updates": "some"}, "updates = 'some': expected one of one, all, positions"),
        (CUBES, {"updates": 1}, "updates = 1: expected one of one, all, positions"),
        (CUBES, {"random_colors": 1}, "random_colors = 1: expected true or false"),
    ],
)
def test_a_value_that_makes_no_world_is_a_clear_error(
    id: str, kwargs: dict[str, Any], message: str | None
) -> None:
    if message is None:
        gymnasium.make(id, **kwargs)
        return
    with pytest.raises(ValueError, match=message):
        gymnasium.make(id, **kwargs)
