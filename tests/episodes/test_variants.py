"""A member on several bodies: each by its own settings and its own episodes, told apart in every result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.identity import differences_that_matter, identity
from esd.config.settings import Config
from esd.config.tables import parse, to_table
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from tests.helpers.configs import of_table
from tests.helpers.shell import TINY, esd

PENDULUM = {"id": "Pendulum-v1", "max_steps": 30}
BODIES: list[dict[str, Any]] = [
    {"name": "light", "kwargs": {"g": 2.0}},
    {"name": "heavy", "kwargs": {"g": 20.0}},
    {"name": "moon", "kwargs": {"g": 1.62}, "unseen": True},
]


def with_bodies(*bodies: dict[str, Any], **env: Any) -> Config:
    return of_table(env={**PENDULUM, "variants": list(bodies), **env})


def test_a_member_plays_its_episodes_on_every_body_and_each_is_the_body_alone() -> None:
    rollout = Rollout(with_bodies(*BODIES, episodes_per_member=2))
    assert rollout.variants == ("light", "heavy")
    h = rollout.policy.initial_parameters(0)
    seeds = rollout.member_seeds(3, 5)
    assert [s.variant for s in seeds] == [0, 0, 1, 1]
    outcome = rollout.evaluate(h, seeds)
    assert (outcome.steps, outcome.episodes) == (120, 4)
    for variant, body in enumerate(BODIES[:2]):
        alone = Rollout(of_table(env={**PENDULUM, "kwargs": body["kwargs"]}))
        own = [EpisodeSeeds(s.environment, s.policy) for s in seeds if s.variant == variant]
        assert alone.evaluate(h, own).returns == (outcome.returns[variant],)
    assert outcome.returns[0] != outcome.returns[1]


def test_no_two_episodes_of_a_member_are_the_same_and_the_first_body_has_those_it_has_alone() -> (
    None
):
    seeds = Rollout(with_bodies(*BODIES, episodes_per_member=3)).member_seeds(0, 1)
    assert len({(s.environment, s.policy) for s in seeds}) == 6
    alone = Rollout(of_table(env={**PENDULUM, "episodes_per_member": 3})).member_seeds(0, 1)
    assert seeds[:3] == alone


def test_a_body_changes_keyword_arguments_wrappers_and_id() -> None:
    wrapper = "tests.helpers.user_code:Doubled"
    config = with_bodies(
        {"name": "a", "wrappers": [wrapper]},
        {"name": "b", "id": "tests.helpers.user_code:Leaky-v0", "kwargs": {"x": 1}},
        kwargs={"g": 3.0},
        wrappers=["tests.helpers.user_code:First"],
    )
    a, b = (config.env.of_variant(v) for v in config.env.trained)
    assert ([w.id for w in a.wrappers], a.kwargs) == (
        ["tests.helpers.user_code:First", wrapper],
        {"g": 3.0},
    )
    assert (b.id, b.kwargs) == ("tests.helpers.user_code:Leaky-v0", {"g": 3.0, "x": 1})
    assert a.variants == ()


def test_the_center_plays_the_same_episodes_on_every_body() -> None:
    config = with_bodies(*BODIES[:2], {"name": "again", "kwargs": {"g": 2.0}})
    rollout = Rollout(config)
    state = start(
        make_strategy(config, rollout.policy.layout), rollout.policy.initial_parameters(0), 0
    )
    records = Records(0, 3, 0, 3)
    OneByOne(rollout, make_strategy(config, rollout.policy.layout)).fill(
        state, iter(range(3)), records
    )
    light, heavy, again = records.center_returns.T
    np.testing.assert_array_equal(light, again)
    assert (light != heavy).all()
    assert len(set(light)) == 3


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"variants": [{"kwargs": {"g": 1}}]}, r"variants\[0\].name: is missing; expected a name"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "2 are called 'a'"),
        ({"variants": [{"name": "a", "unseen": True}]}, "set unseen = false"),
        ({"variants": [{"name": "a", "gravity": 1}]}, "unknown key"),
        ({"variants": {"name": "a"}}, "expected a list"),
    ],
)
def test_variants_that_make_no_sense_are_refused(env: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        of_table(env={**PENDULUM, **env})
    with pytest.raises(UsageError, match=r"variants\.reduce = 'median': expected one of mean, min"):
        of_table(variants={"reduce": "median"})


def test_a_body_that_cannot_be_made_or_does_not_fit_is_named() -> None:
    with pytest.raises(
        UsageError,
        match=r"env.variants, 'odd': env.id = 'Pendulum-v1': .* no argument 'oops'.* or from the variant",
    ):
        Rollout(with_bodies(BODIES[0], {"name": "odd", "kwargs": {"oops": 1}}))
    other = {"name": "cart", "id": "CartPole-v1", "kwargs": {"render_mode": None}}
    with pytest.raises(
        UsageError,
        match="'cart' has 4 observations and 2 outputs, but 'light' has 3 observations and 1 bounded",
    ):
        Rollout(with_bodies(BODIES[0], other))


def test_only_the_bodies_trained_on_make_a_run_the_one_it_is() -> None:
    config = with_bodies(*BODIES)
    assert identity(config) == identity(with_bodies(*BODIES[:2]))
    assert identity(config) != identity(with_bodies(*BODIES[::-1]))
    assert parse(to_table(config), "again") == config


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([BODIES[0]], f"{BODIES[1]['name']!r} of the run is missing"),
        ([*BODIES[:2], {"name": "new"}], "'new' is not in the run"),
        ([BODIES[0], {**BODIES[1], "kwargs": {}}], "has kwargs = {}, but the run has {'g': "),
        ([*BODIES[1::-1]], "in the run the order is"),
    ],
)
def test_another_list_of_bodies_is_told_by_their_names(
    asked: list[dict[str, Any]], words: str
) -> None:
    (told,) = differences_that_matter(with_bodies(*BODIES), with_bodies(*asked))
    assert told.startswith("env.variants trained on: ")
    assert words in told
    assert differences_that_matter(with_bodies(*BODIES), with_bodies(*BODIES[:2])) == []


@pytest.mark.parametrize("reduction", ["mean", "min", "mean_of_ranks"])
def test_a_run_tells_its_variants_apart_and_is_rebuilt_from_its_journal(
    reduction: str, tmp_path: Path
) -> None:
    (tmp_path / "bodies.toml").write_text(
        f"""
        [env]
        id = "Pendulum-v1"
        max_steps = 20
        [[env.variants]]
        name = "light"
        kwargs = {{ g = 2.0 }}
        [[env.variants]]
        name = "heavy"
        kwargs = {{ g = 20.0 }}
        [variants]
        reduce = "{reduction}"
        [es]
        fitness_penalty = 0.1
        """
    )
    trained = esd("train", "bodies.toml", *TINY[:3], "--run", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "(light " in trained.stdout
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    of_members = [line for line in lines if line["return_mean"] is not None]
    for line in of_members:
        both = line["return_mean.light"], line["return_mean.heavy"]
        assert both[0] != both[1]
        if reduction == "min":
            assert line["return_mean"] <= min(both)
        else:
            assert line["return_mean"] == pytest.approx(sum(both) / 2)
        centers = line["center_return.light"], line["center_return.heavy"]
        reduced = min(centers) if reduction == "min" else sum(centers) / 2
        assert line["center_return"] == pytest.approx(reduced)
    shown = json.loads(esd("show", "run", "--json", cwd=tmp_path).stdout)
    rebuilt = json.loads(
        esd("show", "run", "--json", "--generation", str(shown["generation"]), cwd=tmp_path).stdout
    )
    assert rebuilt["state_sha256"] == shown["state_sha256"]
    assert shown["last_center_returns"].keys() == {"light", "heavy"}
    assert "center_return.heavy" in esd("show", "run", "--csv", cwd=tmp_path).stdout
