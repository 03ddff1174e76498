"""Associative recall, the T-maze and repeating cards."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest

import esd_envs
from esd.episodes.rollout import Rollout
from tests.helpers.configs import of_table
from tests.helpers.oracles import memory as oracle

gymnasium.register_envs(esd_envs)
RECALL, MAZE = "esd/AssociativeRecall-v0", "esd/TMaze-v0"
REPEAT = "esd/RepeatPrevious-v0"
RECALLS: dict[str, dict[str, Any]] = {
    "default": {},
    "one pair": {"pairs": 1},
    "few questions": {"pairs": 40, "queries": 8, "values": 2, "cue_size": 5},
    "noise": {"pairs": 8, "cue_noise": 0.1},
    "many values": {"pairs": 64, "values": 30, "cue_size": 3},
    "bound anew": {"pairs": 21, "cues": 8},
    "large": {"pairs": 10_000, "queries": 128},
}


def recalled(seed: int, **kwargs: Any) -> tuple[list[np.ndarray], list[int]]:
    """The oracle's episode with the keywords of the environment."""
    pairs = kwargs.get("pairs", 16)
    cues = kwargs.get("cues", pairs)
    return oracle.recall(
        seed,
        pairs,
        kwargs.get("queries", cues),
        kwargs.get("values", 4),
        kwargs.get("cue_size", 16),
        kwargs.get("cue_noise", 0.0),
        cues,
    )


class PerfectMemory:
    """Keeps every pair that it is shown, and answers with the newest value of the nearest cue."""

    def __init__(self, values: int) -> None:
        self._values = values
        self._cues: list[np.ndarray] = []
        self._shown: list[int] = []

    def __call__(self, observation: np.ndarray) -> int:
        cue, value, asked = np.split(observation, [-self._values - 1, -1])
        if not asked[0]:
            self._cues.append(cue)
            self._shown.append(int(value.argmax()))
            return 0
        likeness = np.array(self._cues) @ cue
        nearest = np.flatnonzero(likeness >= likeness.max() - 1e-5)
        return self._shown[nearest[-1]]


def episode(env: gymnasium.Env, seed: int, act: Any) -> tuple[float, int, dict[str, Any]]:
    """Return, steps and last info of an episode."""
    observation, info = env.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over:
        observation, reward, over, truncated, info = env.step(act(observation))
        assert not truncated
        total += reward
        steps += 1
    return total, steps, info


def test_the_oracles_generator_is_splitmix64() -> None:
    """The first outputs for seed 1234567, as published with its other implementations."""
    found = [oracle.splitmix64(1234567 + n * oracle.GAMMA) for n in (1, 2, 3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("name", RECALLS)
def test_recall_shows_what_the_oracle_says_bit_for_bit(name: str) -> None:
    kwargs = RECALLS[name]
    env = gymnasium.make(RECALL, **kwargs)
    for seed in (0, 7, 2**31 - 1, 2**63 + 11)[: 1 if name == "large" else 4]:
        seen, answers = recalled(seed, **kwargs)
        shown = len(seen) - len(answers)
        rng = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        for step, expected in enumerate(seen):
            np.testing.assert_array_equal(observation, expected)
            assert env.observation_space.contains(observation)
            action = int(rng.integers(env.action_space.n))
            right = step >= shown and action == answers[step - shown]
            observation, reward, over, *_ = env.step(action)
            assert reward == (1.0 / len(answers) if right else 0.0)
            assert over == (step == len(seen) - 1)
        assert not observation.any()


@pytest.mark.parametrize("name", [name for name in RECALLS if name != "noise"])
def test_a_perfect_memory_gets_one(name: str) -> None:
    kwargs = RECALLS[name]
    env = gymnasium.make(RECALL, **kwargs)
    pairs = kwargs.get("pairs", 16)
    queries = kwargs.get("queries", kwargs.get("cues", pairs))
    for seed in range(1 if name == "large" else 5):
        total, steps, _ = episode(env, seed, PerfectMemory(kwargs.get("values", 4)))
        assert total == 1.0
        assert steps == pairs + queries


def test_answers_at_random_give_the_chance_level() -> None:
    rng = np.random.default_rng(0)
    for values in (2, 4, 7):
        env = gymnasium.make(RECALL, values=values)
        returns = [
            episode(env, seed, lambda _, v=values: rng.integers(v))[0] for seed in range(300)
        ]
        error = math.sqrt((values - 1) / values**2 / (16 * 300))
        assert abs(np.mean(returns) - 1 / values) < 5 * error


def test_a_fixed_answer_gives_chance_and_the_order_of_pairs_tells_no_more_than_one_question() -> (
    None
):
    env = gymnasium.make(RECALL, pairs=8)

    def in_order() -> Any:
        values: list[int] = []

        def act(observation: np.ndarray) -> int:
            if observation[-1]:
                return values.pop(0)
            values.append(int(observation[16:20].argmax()))
            return 0

        return act

    error = math.sqrt(3 / 16 / (8 * 400))
    ordered = [episode(env, seed, in_order())[0] for seed in range(400)]
    # one of eight questions is by chance the one whose turn it is
    assert abs(np.mean(ordered) - (1 / 8 + 7 / 8 / 4)) < 5 * error
    always = [episode(env, seed, lambda _: 2)[0] for seed in range(400)]
    assert abs(np.mean(always) - 1 / 4) < 5 * error


def shown(env: gymnasium.Env, seed: int, steps: int) -> np.ndarray:
    """The first observations of an episode."""
    seen = [env.reset(seed=seed)[0]]
    for _ in range(steps - 1):
        seen.append(env.step(0)[0])
    return np.array(seen)


def shown_on(env: gymnasium.Env) -> bytes:
    """What the next five steps show."""
    return b"".join(env.step(0)[0].tobytes() for _ in range(5))


def test_cues_are_directions_at_random() -> None:
    env = gymnasium.make(RECALL, pairs=10_000, queries=1)
    cues = shown(env, 3, 10_000)[:, :16].astype(np.float64)
    np.testing.assert_allclose((cues**2).sum(axis=1), 1.0, atol=1e-6)
    assert np.abs(cues.mean(axis=0)).max() < 5 * 0.25 / 100
    products = np.corrcoef(np.concatenate([cues.T, np.roll(cues, 1, axis=0).T]))
    assert np.abs(products - np.eye(32)).max() < 5 / 100
    # as of 10,000 directions of which each is as likely as any other: nearest 0.80 on average, closest pair about 0.94
    likeness = cues @ cues.T - 2 * np.eye(10_000)
    assert abs(likeness.max(axis=1).mean() - 0.80) < 0.01
    assert 0.91 < likeness.max() < 0.97


def test_values_and_the_order_of_questions_are_uniform_and_change_with_the_seed() -> None:
    env = gymnasium.make(RECALL, pairs=8, queries=4, values=5)
    asked, values = np.zeros((4, 8)), np.zeros((8, 5))
    first = set()
    for seed in range(2000):
        seen = shown(env, seed, 12)
        first.add(seen[0].tobytes())
        values[np.arange(8), seen[:8, 16:21].argmax(axis=1)] += 1
        which = (seen[8:, :16] @ seen[:8, :16].T).argmax(axis=1)
        assert len(set(which)) == 4
        asked[np.arange(4), which] += 1
    assert len(first) == 2000
    assert np.abs(asked - 250).max() < 5 * math.sqrt(250 * 7 / 8)
    assert np.abs(values - 400).max() < 5 * math.sqrt(400 * 4 / 5)


def test_noise_has_its_deviation_and_is_on_questions_alone() -> None:
    quiet, noisy = (gymnasium.make(RECALL, pairs=64, cue_noise=noise) for noise in (0.0, 0.2))
    differences = []
    for seed in range(50):
        a, b = shown(quiet, seed, 128), shown(noisy, seed, 128)
        np.testing.assert_array_equal(a[:64], b[:64])
        np.testing.assert_array_equal(a[64:, 16:], b[64:, 16:])
        differences.append((b - a)[64:, :16])
    noise = np.array(differences, np.float64) / 0.2
    n = noise.size
    assert abs(noise.mean()) < 5 / math.sqrt(n)
    assert abs((noise**2).mean() - 1.0) < 5 * math.sqrt(2 / n)
    assert np.abs(noise).max() < 4.0
    flat = noise.reshape(-1, 16)
    assert np.abs(np.corrcoef(flat.T) - np.eye(16)).max() < 5 / math.sqrt(len(flat))


def test_of_a_cue_bound_anew_the_newest_value_is_right() -> None:
    env = gymnasium.make(RECALL, pairs=12, cues=4)

    def oldest() -> Any:
        memory = PerfectMemory(4)
        kept: list[np.ndarray] = []

        def act(observation: np.ndarray) -> int:
            if not observation[-1]:
                kept.append(observation)
                return memory(observation) if len(kept) <= 4 else 0
            return memory(observation)

        return act

    assert [episode(env, seed, PerfectMemory(4))[0] for seed in range(50)] == [1.0] * 50
    first = [episode(env, seed, oldest())[0] for seed in range(200)]
    assert abs(np.mean(first) - 1 / 4) < 5 * math.sqrt(3 / 16 / 800)


@pytest.mark.parametrize("lengths", [(5, 40), (1, 1), (7, 7), (2, 3)])
@pytest.mark.parametrize("distractors", [0, 4])
@pytest.mark.parametrize("forced", [True, False])
def test_the_maze_shows_what_the_oracle_says_bit_for_bit(
    lengths: tuple[int, int], distractors: int, forced: bool
) -> None:
    env = gymnasium.make(MAZE, length=list(lengths), distractors=distractors, forced=forced)
    for seed in (0, 7, 2**31 - 1, 2**63 + 11):
        seen, sign = oracle.maze(seed, lengths, distractors)
        for way in (0, 1):
            observation, _ = env.reset(seed=seed)
            for step, expected in enumerate(seen[:-1]):
                np.testing.assert_array_equal(observation, expected)
                assert env.observation_space.contains(observation)
                action = way if step == len(seen) - 2 else 0 if forced else 2
                observation, reward, over, _, info = env.step(action)
                at_end = step == len(seen) - 2
                assert over == at_end
                assert reward == float(at_end and way == sign)
                assert info == ({"success": way == sign} if at_end else {})
            np.testing.assert_array_equal(observation, seen[-1])


def remembering(forced: bool) -> Any:
    """Walks, and turns as the sign has told."""
    sign = 0

    def act(observation: np.ndarray) -> int:
        nonlocal sign
        if observation[:2].any():
            sign = int(observation[:2].argmax())
        return sign if observation[2] or forced else 2

    return act


@pytest.mark.parametrize("forced", [True, False])
def test_who_remembers_the_sign_gets_one_in_as_few_steps_as_there_are(forced: bool) -> None:
    env = gymnasium.make(MAZE, length=9, forced=forced)
    for seed in range(40):
        assert episode(env, seed, remembering(forced)) == (1.0, 11, {"success": True})


def test_who_does_not_remember_gets_half_of_them_at_best() -> None:
    rng = np.random.default_rng(0)
    error = 0.5 / math.sqrt(1000)
    env = gymnasium.make(MAZE)
    for act in (lambda _: 0, lambda _: 1, lambda _: rng.integers(2)):
        returns = [episode(env, seed, act)[0] for seed in range(1000)]
        assert abs(np.mean(returns) - 0.5) < 5 * error
    # the sign of any distractor at the junction tells nothing
    for i in range(3, 7):
        returns = [episode(env, seed, lambda o, i=i: int(o[i] > 0))[0] for seed in range(1000)]
        assert abs(np.mean(returns) - 0.5) < 5 * error


def test_steps_that_do_not_lead_forward_cost_and_end_a_maze() -> None:
    env = gymnasium.make(MAZE, length=4, forced=False)
    total, steps, info = episode(env, 1, lambda _: 0)
    assert total == pytest.approx(-1.0)
    assert (steps, info) == (5, {"success": False})
    total, steps, info = episode(env, 1, lambda _: 2)
    assert (total, steps, info) == (0.0, 6, {"success": False})
    walk = remembering(False)
    count = 0

    def hesitating(observation: np.ndarray) -> int:
        nonlocal count
        count += 1
        forward = walk(observation)
        return 0 if count in (1, 3) else forward

    total, steps, info = episode(env, 1, hesitating)
    assert total == pytest.approx(1.0 - 2 / 5)
    assert (steps, info) == (8, {"success": True})


def test_the_sign_is_still_there_for_who_has_not_left_it() -> None:
    env = gymnasium.make(MAZE, length=4, forced=False)
    first, _ = env.reset(seed=1)
    still = env.step(1)[0]
    np.testing.assert_array_equal(first[:3], still[:3])
    assert not np.array_equal(first[3:], still[3:])
    assert not env.step(2)[0][:3].any()


def test_lengths_signs_and_distractors_are_uniform_and_independent() -> None:
    env = gymnasium.make(MAZE, length=[3, 6])
    lengths, signs, noise = [], [], []
    for seed in range(4000):
        first, _ = env.reset(seed=seed)
        lengths.append(int(env.unwrapped.compiled.state[3]))
        signs.append(int(first[1]))
        second = env.step(0)[0]
        assert first[0] + first[1] == 1.0
        noise.append(np.concatenate([first[3:], second[3:]]))
    counts = np.bincount(lengths, minlength=7)
    assert counts[:3].sum() == 0
    assert np.abs(counts[3:7] - 1000).max() < 5 * math.sqrt(750)
    drawn = np.array(noise, np.float64)
    assert np.abs(drawn).max() <= 1.0
    assert np.abs(drawn.mean(axis=0)).max() < 5 / math.sqrt(3 * 4000)
    assert np.abs((drawn**2).mean(axis=0) - 1 / 3).max() < 5 * math.sqrt(4 / 45 / 4000)
    together = np.corrcoef(np.concatenate([drawn.T, [signs], [lengths]]))
    assert np.abs(together - np.eye(len(together))).max() < 5 / math.sqrt(4000)


REPEATS: dict[str, dict[str, Any]] = {
    "Easy": {"num_decks": 1, "k": 4},
    "Medium": {"num_decks": 2, "k": 32},
    "Hard": {"num_decks": 3, "k": 64},
    "the card that is shown": {"k": 1},
    "only the last answer": {"k": 51},
}


class Repeating:
    """Names the suit that was shown k - 1 steps ago."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._suits: list[int] = []

    def __call__(self, observation: np.ndarray) -> int:
        self._suits.append(int(observation.argmax()))
        return self._suits[-self._k] if len(self._suits) >= self._k else 0


class Dealer:
    """Stands for a generator where popgym shuffles: its decks are dealt from their end."""

    def __init__(self, cards: list[int]) -> None:
        self._cards = cards

    def shuffle(self, deck: np.ndarray) -> None:
        deck[:] = self._cards[::-1]


@pytest.mark.parametrize("name", REPEATS)
def test_repeating_shows_and_pays_what_the_oracle_says_bit_for_bit(name: str) -> None:
    kwargs = REPEATS[name]
    env = gymnasium.make(REPEAT, **kwargs)
    k = kwargs["k"]
    for seed in (0, 7, 2**31 - 1, 2**63 + 11):
        suits = [card % 4 for card in oracle.deal(seed, kwargs.get("num_decks", 1))]
        rng = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        for step in range(len(suits) - 1):
            np.testing.assert_array_equal(observation, np.eye(4, dtype=np.float32)[suits[step]])
            assert env.observation_space.contains(observation)
            action = int(rng.integers(4))
            observation, reward, over, truncated, _ = env.step(action)
            pay = 1 / (len(suits) - k) if step >= k - 1 else 0.0
            assert reward == (pay if action == suits[step - k + 1] else -pay)
            assert over == (step == len(suits) - 2)
            assert not truncated
        np.testing.assert_array_equal(observation, np.eye(4, dtype=np.float32)[suits[-1]])


@pytest.mark.parametrize("answers", ["at random", "right"])
@pytest.mark.parametrize("name", ["Easy", "Medium", "Hard"])
def test_with_the_same_decks_popgym_shows_and_pays_the_same(name: str, answers: str) -> None:
    popgym = pytest.importorskip("popgym.envs.repeat_previous")
    theirs = getattr(popgym, f"RepeatPrevious{name}")()
    ours = gymnasium.make(REPEAT, **REPEATS[name])
    rng = np.random.default_rng(0)
    for seed in range(5):
        theirs.np_random = Dealer(oracle.deal(seed, REPEATS[name]["num_decks"]))
        suit, _ = theirs.reset()
        observation, _ = ours.reset(seed=seed)
        memory, over, total = Repeating(REPEATS[name]["k"]), False, 0.0
        while not over:
            np.testing.assert_array_equal(observation, np.eye(4)[suit])
            right = memory(observation)
            action = right if answers == "right" else int(rng.integers(4))
            suit, expected, theirs_over, theirs_truncated, _ = theirs.step(action)
            observation, reward, over, truncated, _ = ours.step(action)
            assert (reward, over, truncated) == (expected, theirs_over, theirs_truncated)
            total += reward
        np.testing.assert_array_equal(observation, np.eye(4)[suit])
        assert (total == pytest.approx(1.0)) == (answers == "right")


@pytest.mark.parametrize("name", REPEATS)
def test_who_repeats_gets_one(name: str) -> None:
    env = gymnasium.make(REPEAT, **REPEATS[name])
    for seed in range(5):
        total, steps, _ = episode(env, seed, Repeating(REPEATS[name]["k"]))
        assert total == pytest.approx(1.0)
        assert steps == 52 * REPEATS[name].get("num_decks", 1) - 1


def test_suits_at_random_give_minus_a_half() -> None:
    rng = np.random.default_rng(0)
    for name in ("Easy", "Medium", "Hard"):
        env = gymnasium.make(REPEAT, **REPEATS[name])
        paid = 52 * REPEATS[name]["num_decks"] - REPEATS[name]["k"]
        returns = [episode(env, seed, lambda _: rng.integers(4))[0] for seed in range(300)]
        assert abs(np.mean(returns) + 0.5) < 5 * math.sqrt(0.75 / (paid * 300))


def test_every_card_is_dealt_once_and_any_of_them_anywhere() -> None:
    env = gymnasium.make(REPEAT, num_decks=1).unwrapped
    counts, neighbors = np.zeros((52, 52)), 0
    for seed in range(2000):
        seen = shown(env, seed, 52)
        np.testing.assert_array_equal(seen.sum(axis=0), 13)
        np.testing.assert_array_equal(seen.sum(axis=1), 1)
        cards = env.compiled.state[-52:].astype(int)
        np.testing.assert_array_equal(np.sort(cards), np.arange(52))
        np.testing.assert_array_equal(seen.argmax(axis=1), cards % 4)
        counts[np.arange(52), cards] += 1
        neighbors += (seen[1:] * seen[:-1]).sum()
    assert np.abs(counts - 2000 / 52).max() < 6 * math.sqrt(2000 / 52)
    squares = ((counts - 2000 / 52) ** 2).sum() / (2000 / 52)  # chi square, 51² degrees of freedom
    assert abs(squares - 51**2) < 5 * math.sqrt(2 * 51**2)
    assert abs(neighbors / (2000 * 51) - 12 / 51) < 5 * math.sqrt(12 * 39 / 51**2 / (2000 * 51))


def test_of_three_decks_every_card_is_dealt_three_times() -> None:
    env = gymnasium.make(REPEAT, num_decks=3).unwrapped
    for seed in range(20):
        seen = shown(env, seed, 156)
        np.testing.assert_array_equal(seen.sum(axis=0), 39)
        dealt = Counter(int(card) % 52 for card in env.compiled.state[-156:])
        assert dealt == dict.fromkeys(range(52), 3)


def test_a_corridor_of_100_000_steps_is_not_cut() -> None:
    env = gymnasium.make(MAZE, length=100_000)
    assert episode(env, 2, remembering(True)) == (1.0, 100_002, {"success": True})
    for id, kwargs, steps in (
        (MAZE, {"length": 100_000}, 100_002),
        (RECALL, {"pairs": 100_000}, 200_000),
        (REPEAT, {"num_decks": 2000, "k": 64}, 103_999),
    ):
        config = of_table(env={"id": id, "kwargs": kwargs}, policy={"kind": "static"})
        rollout = Rollout(config)
        assert rollout.compiled
        rollout.load([(0, rollout.policy.initial_parameters(0))])
        assert rollout.play(rollout.member_seeds(0, 0)).steps == steps


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        (RECALL, {"pairs": 3}),
        (MAZE, {"length": 2}),
        (MAZE, {"length": 2, "forced": False}),
        (REPEAT, {}),
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


@pytest.mark.parametrize("id", [RECALL, MAZE, REPEAT])
def test_resets_without_a_seed_follow_the_last_seed_as_gymnasium_has_it(id: str) -> None:
    def episodes(seed: int) -> list[bytes]:
        env = gymnasium.make(id)
        seeds = [seed, *[None] * 5]
        return [env.reset(seed=one)[0].tobytes() + shown_on(env) for one in seeds]

    assert episodes(1) == episodes(1)
    assert len({*episodes(1), *episodes(2)}) == 12


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (RECALL, {"pairs": 0}, "pairs = 0: expected a whole number from 1 to 10,000,000"),
        (RECALL, {"pairs": 10**12}, "pairs = 1000000000000: expected a whole number from 1 to"),
        (RECALL, {"pairs": 2.5}, "pairs = 2.5"),
        (RECALL, {"pairs": True}, "pairs = True"),
        (RECALL, {"values": 1}, "values = 1: expected a whole number from 2"),
        (RECALL, {"queries": 17}, "queries = 17: expected a whole number from 1 to 16"),
        (RECALL, {"queries": 5, "cues": 4}, "queries = 5: expected a whole number from 1 to 4"),
        (RECALL, {"cues": 17}, "cues = 17: expected a whole number from 1 to 16"),
        (RECALL, {"cue_size": 0}, "cue_size = 0"),
        (RECALL, {"cue_noise": -0.1}, "cue_noise = -0.1: expected a number of at least 0"),
        (RECALL, {"cue_noise": float("nan")}, "cue_noise = nan"),
        (MAZE, {"length": 0}, "length = 0: expected a whole number from 1"),
        (MAZE, {"length": "far"}, "length = 'far'"),
        (MAZE, {"length": [5]}, r"length = \[5\]: expected a whole number or \[least, most\]"),
        (MAZE, {"length": [9, 5]}, "length = 5: expected a whole number from 9 to"),
        (MAZE, {"distractors": -1}, "distractors = -1: expected a whole number from 0"),
        (MAZE, {"forced": 1}, "forced = 1: expected true or false"),
        (REPEAT, {"num_decks": 0}, "num_decks = 0: expected a whole number from 1 to 192,307"),
        (REPEAT, {"num_decks": 192_308}, "num_decks = 192308: expected a whole number from 1 to"),
        (REPEAT, {"num_decks": 1.5}, "num_decks = 1.5"),
        (REPEAT, {"k": 0}, "k = 0: expected a whole number from 1 to 51"),
        (REPEAT, {"num_decks": 2, "k": 104}, "k = 104: expected a whole number from 1 to 103"),
        (REPEAT, {"k": True}, "k = True"),
    ],
)
def test_a_value_that_makes_no_world_is_a_clear_error(
    id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(id, **kwargs)
