"""``--set key=value``: what a value becomes, or how it should have been written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from esd.config.experiment_files import read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, flatten, parse, to_table
from esd.errors import UsageError

OBJECTIVE = {
    "objective": {
        "function": "sphere",
        "direction": "minimize",
        "parameters": {"x": {"shape": [2]}},
    }
}
OWN = {"policy": {"kind": "somebodys:Policy"}}


def changed(*settings: str, table: dict[str, Any] | None = None) -> Config:
    return parse(apply_settings(table or {}, settings), "test")


def value_of(setting: str, table: dict[str, Any] | None = None) -> Any:
    key = setting.partition("=")[0].strip()
    return flatten(to_table(changed(setting, table=table)))[key]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("env.id=Ant-v5", "Ant-v5"),
        ("env.id = Ant-v5 ", "Ant-v5"),
        ("env.id=my_worlds:Maze-v0", "my_worlds:Maze-v0"),
        ("es.optimizer=adam", "adam"),
        ("policy.kind=somebodys:Policy", "somebodys:Policy"),
        ("es.sigma=1_0.5", 10.5),
        ("es.sigma=+0.5", 0.5),
        ("es.sigma=5", 5.0),
        ("env.kwargs.x=false", False),
        ("env.kwargs.x='False'", "False"),
        ('env.kwargs.x="None"', "None"),
        ("env.kwargs.x=0x10", 16),
        ("env.kwargs.x=inf", math.inf),
        ("env.kwargs.x=left", "left"),
        ("env.kwargs.x=Nonesuch", "Nonesuch"),
        ("env.kwargs.x=normal", "normal"),
        ("env.kwargs.x=off-road", "off-road"),
        ("env.kwargs.x=data/maps 2.json", "data/maps 2.json"),
        ("env.kwargs.x=#ff0000", "#ff0000"),
        ("env.kwargs.x=1.2.3", "1.2.3"),
        ("env.kwargs.x=3x3", "3x3"),
        ("env.kwargs.x=ε", "ε"),
        ("env.kwargs.x=[1, true, 'on']", [1, True, "on"]),
        ("env.kwargs.a.b=deep", None),
        ("policy.hidden=[8]", [8]),
    ],
)
def test_a_value_is_toml_or_the_bare_text(setting: str, value: Any) -> None:
    if value is None:
        assert changed(setting).env.kwargs == {"a": {"b": "deep"}}
        return
    found = value_of(setting)
    assert found == value
    assert type(found) is type(value)


FREE = ["env.kwargs.x", "env.kwargs.a.b", "policy.kwargs.x", "policy.speed"]


@pytest.mark.parametrize("key", FREE)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("True", "True: write true; a string needs quotes: '\"True\"'"),
        ("FALSE", "FALSE: write false"),
        ("yes", "yes: write true"),
        ("No", "No: write false"),
        ("on", "on: write true"),
        ("off", "off: write false"),
        ("None", "None: TOML has no None; remove the setting; a string needs quotes: '\"None\"'"),
        ("null", "null: TOML has no null"),
        ("NaN", "NaN: not a number in TOML"),
        ("Infinity", "Infinity: write inf"),
        (".5", ".5: write 0.5"),
        ("5.", "5.: write 5.0"),
        ("-.5e3", "-.5e3: write -500.0"),
        ("1__0", "1__0: not a number in TOML"),
        ("007", "007: write 7"),
        ("0x", "0x: not a number in TOML"),
        ("0X1F", "0X1F: write 31"),
        ("0,5", "0,5: write 0.5"),
        ("−5", "−5: write -5"),
        ("–0.5", "–0.5: write -0.5"),
        ("1.5f", "1.5f: not a number in TOML"),
        ("2j", "2j: not a number in TOML"),
        ("50%", "50%: not a number in TOML"),
        ("", ": the value is missing; an empty string is '\"\"'"),
        ("  ", ": the value is missing"),
    ],
)
def test_where_anything_goes_a_word_of_another_language_is_refused(
    key: str, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        changed(f"{key}={text}", table=OWN)
    assert f"{key} = {message}" in str(caught.value)


@pytest.mark.parametrize(
    "key", ["objective.kwargs.x", "objective.parameters.x.low", "objective.parameters.x.initial"]
)
def test_so_it_is_for_objectives(key: str) -> None:
    with pytest.raises(UsageError, match=rf"{key} = None: TOML has no None"):
        changed(f"{key}=None", table=OBJECTIVE)


def test_uniform_needs_no_quotes() -> None:
    config = changed(
        "objective.parameters.x.low=0",
        "objective.parameters.x.high=1",
        "objective.parameters.x.initial=uniform",
        table=OBJECTIVE,
    )
    assert config.objective.parameters["x"].initial == "uniform"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("env.normalize_observations=True", "'True': expected true or false; write true"),
        ("env.normalize_observations=maybe", "'maybe': expected true or false"),
        ("es.sigma=.5", "'.5': expected a number; write 0.5"),
        ("es.sigma=−0.5", "expected a number; write -0.5"),
        ("es.sigma=", "'': expected a number; the value is missing"),
        ("es.sigma=1e400", "--set es.sigma=1e400: 1e400 is too large for a number"),
        ("es.sigma=nan", "nan: expected a finite number"),
        ("es.sigma=inf", "inf: expected a finite number"),
        (f"es.sigma={10**400}", "expected a whole number of 64 bits"),
        ("env.kwargs.x=1e999", "1e999 is too large for a number; write inf if that is meant"),
        (f"env.kwargs.x={10**400}", "expected a whole number of 64 bits"),
        ("env.kwargs.x=nan", "env.kwargs.x = nan: expected anything but nan"),
        ("env.kwargs.x=2024-01-01", "env.kwargs.x = 2024-01-01: expected a string, a number"),
        (f"population={2**63}", "expected an integer of at most 2⁶³ − 1"),
        (f"population={'9' * 5000}", "--set population=9999"),
        ("generations=ten", "generations = 'ten': expected an integer"),
        ("policy.hidden=64", "policy.hidden = 64: expected a list, such as [64]"),
        ("policy.hidden=64,32", "policy.hidden = '64,32': expected a list, such as [64, 32]"),
        ("policy.hidden=-3", "policy.hidden = -3: expected a list, such as [4, 2]"),
        ("policy.hidden=None", "policy.hidden = 'None': expected a list, such as [4, 2]"),
        ("policy.hidden=3.5", "policy.hidden = 3.5: expected a list, such as [4, 2]"),
        ("policy.hidden=['a']", "policy.hidden[0] = 'a': expected an integer"),
        ("policy.hidden=[1.5]", "policy.hidden[0] = 1.5: expected an integer"),
        ("policy.hidden=[true]", "policy.hidden[0] = True: expected an integer"),
        ("policy.hidden=[0]", "policy.hidden = [0]: expected sizes above 0"),
        ("policy.hidden=[-3]", "policy.hidden = [-3]: expected sizes above 0"),
        ("policy.hidden=[nan]", "policy.hidden[0] = nan: expected an integer"),
        ("env.wrappers=a:B", "env.wrappers = 'a:B': expected a list, such as [\"a:B\"]"),
        ("env.id=", "env.id = '': expected a Gymnasium id"),
        ("env.kwargs.x=[1, True]", "x=[1, True]: not valid TOML (Invalid value): it has no True, write true"),
        ("env.kwargs.x=[1, None]", "it has no None, leave it out"),
        ("env.kwargs={a=None}", "it has no None"),
        ("env.kwargs={'a': 1}", "a table is written {a = 1, b = 2}"),
        ("env.kwargs.x=[a, b]", "not valid TOML (Invalid value); a string needs quotes, also in a list"),
        ("env.kwargs.x=[1, 2", "not valid TOML (Unclosed array)"),
        ("env.kwargs.x='a", "--set env.kwargs.x='a: not valid TOML"),
        ("env.kwargs.x=(1, 2)", "TOML has no tuples; write a list, such as [1, 2]"),
        ("env.variants=[{name='a'}, {name=True}]", "it has no True, write true"),
        ("env.kwargs.x=1\nseed = 3", "expected one value"),
        (f"env.kwargs.x={'[' * 3000}", "nested more than 32 levels deep"),
        (f"env.kwargs.x={'[' * 40}{']' * 40}", "nested more than 32 levels deep"),
        (f"env{'.a' * 100}=1", "the key has 101 parts, expected at most 16"),
        (f"{'k' * 100_000}=1", "unknown key"),
        ("env.kwargs.x=\udcff", "not UTF-8"),
        ("es.sigma", "--set es.sigma: expected key=value"),
        ("=3", "expected key=value"),
        ("es..sigma=3", "expected key=value"),
        ("es.sigma.deep=3", "expected a number"),
        ("es–sigma=3", "unknown key"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_says_what_to_write(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(setting)
    assert message in str(caught.value)
    assert len(str(caught.value)) <= 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("es.sigma=True", "es.sigma = 'True': expected a number"),
        ("es.sigma=10%", "es.sigma = '10%': expected a number"),
        ("es.sigma=none", "es.sigma = 'none': expected a number; TOML has no none; remove the setting"),
        ("population=4k", "population = '4k': expected an integer"),
        ("population=.5", "population = '.5': expected an integer"),
        ("population=０", "population = '０': expected an integer; write 0"),
        ("env.normalize_observations=0x", "env.normalize_observations = '0x': expected true or false"),
        ("env.wrappers=[{kwargs={a=1}}]", "env.wrappers[0].id: is missing; expected module:Class"),
        (
            "env.variants=[{id='Pendulum-v1'}]",
            "env.variants[0].name: is missing; expected a name without control characters",
        ),
        (
            r'env.variants=[{name="a\u001b[2J"}]',
            r"env.variants[0].name = 'a\x1b[2J': expected a name without control characters",
        ),
    ],
)  # fmt: skip
def test_only_what_a_setting_takes_is_suggested(setting: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(setting)
    assert str(caught.value) == f"test: {said}"


def test_in_a_file_quoted_words_are_texts() -> None:
    table = {"env": {"kwargs": {"a": "False", "b": "None", "c": ""}}}
    assert parse(table, "file").env.kwargs == {"a": "False", "b": "None", "c": ""}


def test_the_last_value_of_a_setting_counts() -> None:
    assert changed("seed=1", "seed=2").seed == 2


def test_a_table_that_undoes_what_was_set_before_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"env.kwargs={y=2}: overrides the earlier --set env.kwargs.x=1"
    ):
        changed("env.kwargs.x=1", "env.kwargs={y=2}")
    assert changed("env.kwargs={y=2}", "env.kwargs.x=1").env.kwargs == {"y": 2, "x": 1}


def test_the_kind_of_the_policy_counts_wherever_it_stands() -> None:
    """What was set for it isn't lost with the settings of the kind before."""
    _, table = read_experiment("cartpole")
    for settings in (("policy.kind=gru", "policy.units=7"), ("policy.units=7", "policy.kind=gru")):
        assert changed(*settings, table=table).policy.settings.units == 7


def config_or_one_line(setting: str) -> Config | None:
    """Anything but a message that is too long or has several lines."""
    error = ""
    try:
        return changed(setting)
    except UsageError as caught:
        error = str(caught)
    assert len(error) <= 1000
    assert error.isprintable()
    return None


KEYS = [*flatten(to_table(Config())), *FREE, "env.variants", "policy", "env", "x", "format"]


@given(st.sampled_from(KEYS), st.text(max_size=40) | st.sampled_from(["True", "[1,", "{a=1}"]))
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_value_ends_in_a_config_or_one_line(key: str, text: str) -> None:
    config = config_or_one_line(f"{key}={text.replace(':', '')}")
    assert config is None or parse(to_table(config), "again") == config


@given(st.text(max_size=60))
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_text_at_all_ends_in_a_config_or_one_line(text: str) -> None:
    config_or_one_line(text.replace(":", ""))
