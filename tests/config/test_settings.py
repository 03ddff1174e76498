"""Configs: everything that is wrong is found at once, and what is written is read back the same."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from esd.config.descriptions import describe_settings
from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.identity import differences_that_matter, identity
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse, to_table
from esd.errors import UsageError


@pytest.mark.parametrize("name", experiment_names())
def test_every_shipped_experiment_is_valid_commented_and_reads_back_the_same(name: str) -> None:
    stem, table = read_experiment(name)
    config = parse(table, name)
    assert stem == name
    assert parse(to_table(config), "again") == config
    tomli_w.dumps(to_table(config))
    text = (Path(__file__).parents[2] / "esd/config/experiments" / f"{name}.toml").read_text()
    assert text.startswith("# ")


def test_defaults_are_valid() -> None:
    assert parse({}, "empty") == Config()


@pytest.mark.parametrize(
    ("table", "problems"),
    [
        ({"sead": 1}, ["sead: unknown key, did you mean 'seed'?"]),
        ({"sigma": 0.1}, ["sigma: unknown key, did you mean 'es.sigma'?"]),
        ({"learnig_rate": 0.1}, ["learnig_rate: unknown key, did you mean 'es.learning_rate'?"]),
        ({"env": {"units": 3}}, ["env.units: unknown key, did you mean 'policy.units'?"]),
        ({"es": {"sigma": -1}}, ["es.sigma = -1: expected more than 0 and at most 4e37"]),
        ({"es": {"sigma": 1e39}}, ["es.sigma = 1e+39: expected more than 0 and at most 4e37"]),
        ({"es": {"epsilon": 1e-30}}, ["es.epsilon = 1e-30: expected 1e-18 or more"]),
        ({"es": {"sigma": math.inf}}, ["es.sigma = inf: expected a finite number"]),
        ({"es": {"sigma": math.nan}}, ["es.sigma = nan"]),
        ({"es": {"sigma": "big"}}, ["es.sigma = 'big': expected a number"]),
        ({"es": {"sigma": True}}, ["es.sigma = True: expected a number"]),
        ({"es": {"sigma_min": 0.2}}, ["es.sigma_min = 0.2: expected at most es.sigma = 0.1"]),
        (
            {"es": {"optimizer": "adm"}},
            ["es.optimizer = 'adm': did you mean 'adam'?"],
        ),
        ({"es": 3}, ["es = 3: expected a table"]),
        ({"variants": 3}, ["variants = 3: expected a table"]),
        ({"variants": [{"name": "a"}]}, ["[[variants]]: expected [[env.variants]] for variants"]),
        ({"population": 3.5}, ["population = 3.5: expected an integer"]),
        ({"population": True}, ["population = True: expected an integer"]),
        ({"population": 0}, ["population = 0"]),
        ({"seed": 2**64}, ["seed = 18446744073709551616"]),
        ({"policy": {"kind": "hebbiann"}}, ["policy.kind = 'hebbiann': did you mean 'hebbian'?"]),
        ({"policy": {"kind": 3}}, ["policy.kind = 3"]),
        ({"policy": {"kind": "static", "rule": "A"}}, ["policy.rule: unknown key"]),
        ({"policy": {"rate": 1e-60}}, ["policy.rate = 1e-60: expected 1e-30 to 1e30"]),
        ({"policy": {"rate": 1e39}}, ["policy.rate = 1e+39: expected 1e-30 to 1e30"]),
        (
            {"policy": {"kind": "reformer", "head_rate": 1e39, "hashes": 10**9}},
            [
                "head_rate = 1e+39: expected 1e-30 to 1e30",
                "hashes = 1000000000: expected 1 to 1024",
            ],
        ),
        (
            {"policy": {"kind": "gru", "head_rate": 1e-60}},
            ["head_rate = 1e-60: expected 1e-30 to 1e30"],
        ),
        ({"policy": {"hidden": 3}}, ["policy.hidden = 3: expected a list"]),
        ({"policy": {"hidden": [3, 0]}}, ["policy.hidden = [3, 0]: expected sizes above 0"]),
        ({"policy": {"hidden": [3, "x"]}}, ["policy.hidden[1] = 'x': expected an integer"]),
        (
            {"env": {"wrappers": ["NoColon"]}},
            ["env.wrappers[0].id = 'NoColon': expected module:Class"],
        ),
        (
            {"env": {"kwargs": {"a": [{"on": datetime.date(2020, 1, 2)}], "b": math.nan}}},
            ["env.kwargs.a[0].on = 2020-01-02: expected a string, a number", "env.kwargs.b = nan"],
        ),
        ({"run": {"max_hours": 0}}, ["run.max_hours = 0: expected more than 0"]),
        (
            {"population": 5, "seed": -1, "x": 1, "es": {"y": 2}},
            ["population = 5", "seed = -1", "x:", "es.y:"],
        ),
    ],
)
def test_every_problem_is_named_with_value_and_expectation(
    table: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(UsageError) as error:
        parse(table, "file.toml")
    assert str(error.value).startswith("file.toml: ")
    for problem in problems:
        assert problem in str(error.value)


def test_set_reads_toml_values_and_bare_strings() -> None:
    table = apply_settings(
        {"es": {"sigma": 1}},
        [
            "es.sigma=0.5",
            "env.id=CartPole-v1",
            "policy.hidden=[3, 4]",
            "env.kwargs={a = true}",
            'x.y="1"',
        ],
    )
    assert table == {
        "es": {"sigma": 0.5},
        "env": {"id": "CartPole-v1", "kwargs": {"a": True}},
        "policy": {"hidden": [3, 4]},
        "x": {"y": "1"},
    }


@pytest.mark.parametrize("setting", ["es.sigma", "=3", "es..sigma=1", "seed.deeper=1"])
def test_a_malformed_set_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        apply_settings({"seed": 3}, [setting])


def test_another_kind_of_policy_drops_what_only_the_old_one_knows() -> None:
    _, table = read_experiment("cartpole")
    policy = apply_settings(table, ["policy.kind=static"])["policy"]
    assert policy == {"kind": "static", "hidden": [16, 8], "initial_weights": "uniform"}
    assert apply_settings(table, ["policy.kind=hebbian"])["policy"] == table["policy"]


def test_an_experiment_may_extend_another_and_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'extends = "cartpole"\npopulation = 6\n[env]\nkwargs = {a = 1, b = 2}\n[es]\nsigma = 0.3\n'
    )
    yours = tmp_path / "yours.toml"
    yours.write_text('extends = "mine.toml"\n[env]\nkwargs = {b = 3}\n[policy]\nkind = "static"\n')
    name, table = read_experiment(str(yours))
    _, cartpole = read_experiment("cartpole")
    assert name == "yours"
    assert table["env"] == {**cartpole["env"], "kwargs": {"a": 1, "b": 3}}
    assert table["es"] == {**cartpole["es"], "sigma": 0.3}
    assert table["policy"] == {"kind": "static", "hidden": [16, 8], "initial_weights": "uniform"}
    assert (table["population"], table["generations"]) == (6, cartpole["generations"])
    parse({**table, "env": cartpole["env"]}, name)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"me.toml"', "me.toml extends .*me.toml: it extends itself"),
        (
            '"cartpol"',
            "me.toml: extends = 'cartpol': no such experiment, and no such file beside it, did you mean 'cartpole'?",
        ),
        (
            '"no.toml"',
            "me.toml: extends = 'no.toml': no such experiment, and no such file beside it$",
        ),
        ("3", "extends = 3: expected an experiment or a TOML file"),
        ('"../here/me.toml"', r"^.*me.toml extends [^ ]*/here/me.toml: it extends itself$"),
    ],
)
def test_an_experiment_that_extends_nonsense_is_refused(
    base: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "here" / "me.toml"
    path.parent.mkdir()
    path.write_text(f"extends = {base}\n[policy]\n")
    with pytest.raises(UsageError, match=message):
        read_experiment(str(path))


def test_a_file_may_begin_with_the_mark_of_windows_editors(tmp_path: Path) -> None:
    path = tmp_path / "me.toml"
    path.write_text('extends = "cartpole"\nseed = 3\n', encoding="utf-8-sig")
    assert read_experiment(str(path))[1]["seed"] == 3


@pytest.mark.parametrize("kind", ["[1]", "{a = 1}", "3"])
def test_a_kind_of_policy_that_is_no_text_is_a_clear_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "me.toml"
    path.write_text(f'extends = "cartpole"\n[policy]\nkind = {kind}\n')
    for table in (
        read_experiment(str(path))[1],
        apply_settings(to_table(Config()), [f"policy.kind={kind}"]),
    ):
        with pytest.raises(UsageError, match=r"policy.kind = .*known: gru, hebbian"):
            parse(table, "test")


def test_a_policy_may_extend_what_is_no_table_at_all(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('policy = "static"\n')
    path = tmp_path / "me.toml"
    path.write_text('extends = "base.toml"\n[policy]\nkind = "static"\n')
    assert read_experiment(str(path))[1] == {"policy": {"kind": "static"}}


def test_identity_covers_everything_that_h_depends_on_and_nothing_else() -> None:
    config = Config()
    for setting, matters in (
        ("seed=1", True),
        ("population=4", True),
        ("env.kwargs={a = 1}", True),
        ("policy.order=F", True),
        ("es.sigma=0.2", True),
        ("generations=7", False),
        ("run.checkpoint_every=3", False),
        ("run.target_return=3.0", False),
    ):
        changed = parse(apply_settings(to_table(config), [setting]), "changed")
        assert (identity(changed) != identity(config)) == matters
        assert bool(differences_that_matter(config, changed)) == matters


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("policy.every=3", "policy.every = 3, but the run has 1"),
        ("policy.draw_weights=run", "policy.draw_weights = 'run', but the run has 'episode'"),
        ("env.kwargs.g=3", "env.kwargs.g = 3, but the run has 'unset'"),
    ],
)
def test_a_difference_names_the_value_that_a_run_has_also_of_younger_settings(
    setting: str, expected: str
) -> None:
    stored = parse({"format": 1}, "run")
    changed = parse(apply_settings(to_table(stored), [setting]), "changed")
    assert expected in differences_that_matter(stored, changed)
    back = differences_that_matter(changed, stored)
    key, old = expected.partition(" = ")[0], expected.rpartition("has ")[2]
    assert any(line.startswith(f"{key} = {old}, but the run has") for line in back)


def test_every_setting_is_described_with_its_default() -> None:
    described = describe_settings()
    assert "es.sigma" in described
    assert "[default: 0.1]" in described["es.sigma"]
    assert all(text and "[default: " in text for text in described.values())


@hypothesis.settings(deadline=None)  # the first call imports what names the settings
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["seed", "es", "env", "policy", "run", "sigma", "kind", "hidden", "id", "x"]),
                        inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_table_whatever_makes_anything_but_a_config_or_a_clear_error(table: Any) -> None:
    if not isinstance(table, dict):
        return
    try:
        config = parse(table, "fuzz")
    except UsageError:
        return
    assert parse(to_table(config), "again") == config


def test_names_in_configs_are_those_that_exist() -> None:
    """They stand in config.py once more so that reading a config needs no compiled code."""
    from esd.config import settings as config
    from esd.evolution.noise import NOISE_KINDS

    assert set(config.NOISE_NAMES) == {*NOISE_KINDS, config.LOW_RANK}
