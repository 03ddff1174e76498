"""Kinds of a user's own: settings that a class declares, its compiled step, its lock-step builder, entry points."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from esd.config.descriptions import describe_settings
from esd.config.experiment_files import read_experiment
from esd.config.identity import identity, settings_of_h
from esd.config.kinds import POLICIES
from esd.config.policies import PolicyConfig
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse, to_table
from esd.episodes import canary
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd.evolution.state import make_strategy
from esd.lockstep.policies import make_batch_policy
from esd.policies.base import Interface
from esd.policies.compiled_step import c_step
from esd.policies.guard import unguarded
from esd.policies.registry import find_kind, make_policy, with_own_defaults
from esd.problems.episodes import make_player
from esd.run.folder import RunFolder
from esd.run.journal import VERSION
from esd.training.plan import TrainRequest, make_plan
from tests.helpers.configs import SMALL
from tests.helpers.own_policies import LEAKY, CompiledLeaky, Leaky, LeakySettings, LeakyTogether
from tests.helpers.training import from_journal, trained

OWN = "tests.helpers.own_policies"
SEEN = Interface(4, 2, False)
CART_POLE = {"id": "esd/HiddenCartPole-v0"}


def config(kind: str = f"{OWN}:Leaky", **policy: Any) -> Config:
    """A config with a policy of one's own."""
    return parse({"policy": {"kind": kind, **policy}}, "test")


def built(policy: PolicyConfig) -> Any:
    """As the user has written it; what guards it is tested in test_guard."""
    return unguarded(make_policy(policy, SEEN))


def test_a_class_gets_the_settings_that_it_declares_read_and_checked() -> None:
    policy = built(config(leak=1, hidden=[4, 5], kwargs={"gain": 2.0}).policy)
    assert policy.own == LeakySettings(1.0, (4, 5))
    assert isinstance(policy.own.leak, float)
    assert policy.gain == 2.0
    assert built(config().policy).own == LeakySettings()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            {"leek": 0.1},
            rf"policy.leek: unknown key of policy.kind = '{OWN}:Leaky', did you mean 'leak'",
        ),
        ({"x": 1}, r"policy.x: unknown key of .*, known: hidden, kwargs, leak, mode"),
        ({"leak": 0.0}, r"policy.leak = 0.0: expected more than 0"),
        ({"leak": "much"}, r"policy.leak = 'much': expected a number"),
        ({"mode": "loud"}, r"policy.mode = 'loud': expected one of plain, signed"),
        ({"leek": 1, "mode": "loud"}, r"policy.leek: unknown .*; policy.mode = 'loud'"),
        ({"kwargs": {"gein": 1}}, r"can't be built with policy.kwargs = {'gein': 1} and settings"),
        (
            {"kind": f"{OWN}:LEAKY", "kwargs": {"gain": 1}},
            r"policy.kwargs: unknown key of policy.kind = '.*LEAKY', known: hidden, leak, mode",
        ),
        ({"kind": f"{OWN}:NOTHING"}, r"is a float, expected a class or a PolicyKind"),
        ({"kind": f"{OWN}:Unreadable", "z": 1}, r"UnreadableSettings can't be read"),
        (
            {"kind": "tests.helpers.user_code:CountingPolicy", "leak": 1},
            r"policy.leak: unknown key of .*CountingPolicy', known: kwargs",
        ),
    ],
)
def test_a_wrong_setting_is_named_when_the_policy_is_built(
    policy: dict[str, Any], message: str
) -> None:
    found = config(**policy).policy
    with pytest.raises(UsageError, match=message) as error:
        built(found)
    assert "\n" not in str(error.value)


def test_reading_a_config_imports_nothing_of_the_users() -> None:
    table = {"policy": {"kind": "strangers_code_that_is_not_here:Policy", "speed": 3, "deep": [1]}}
    found = parse(table, "test")
    assert found.policy.settings.own == {"speed": 3, "deep": [1]}
    assert parse(to_table(found), "again") == found
    assert "strangers_code_that_is_not_here" not in sys.modules
    with pytest.raises(UsageError, match="can't be imported"):
        built(found.policy)


def test_settings_of_a_class_are_part_of_what_h_depends_on() -> None:
    assert settings_of_h(config(leak=0.25))["policy.leak"] == 0.25
    assert identity(config(leak=0.25)) != identity(config(leak=0.5))
    assert identity(config(leak=0.25)) == identity(config(leak=0.25))


def test_a_value_that_no_hash_takes_is_refused_when_the_config_is_read() -> None:
    with pytest.raises(UsageError, match=r"policy.leak = nan: expected anything but nan"):
        config(leak=float("nan"))


def test_another_kind_keeps_no_settings_of_the_one_before() -> None:
    table = to_table(config(leak=0.25))
    other = parse(apply_settings(table, ["policy.kind=hebbian"]), "test")
    assert other == parse({}, "test")
    back = apply_settings(to_table(other), [f"policy.kind={OWN}:Leaky", "policy.leak=0.75"])
    assert parse(back, "test") == config(leak=0.75)


def test_a_class_whose_settings_are_no_dataclass_has_declared_none() -> None:
    assert built(config(f"{OWN}:NotAClassOfSettings").policy).own == LeakySettings()


def test_a_descriptor_may_be_named_by_module_and_name() -> None:
    found = config(f"{OWN}:LEAKY", leak=0.125).policy
    assert find_kind(found)[0] is LEAKY
    assert built(found).own.leak == 0.125


@pytest.mark.parametrize("kind", ["Leaky", "LeakyByName", "LEAKY"])
def test_a_lock_step_builder_of_ones_own_is_used(kind: str) -> None:
    """Alone and in any slot the same outputs, bit for bit."""
    found = config(f"{OWN}:{kind}", leak=0.25)
    found = parse({**to_table(found), "batch_members": 3}, "test")
    alone = built(found.policy)
    batch = make_batch_policy(found, alone, SEEN, torch.device("cpu"))
    assert isinstance(batch.unguarded, LeakyTogether)  # type: ignore[attr-defined]
    h = alone.initial_parameters(0)
    alone.load(h)
    batch.load([1], torch.from_numpy(h)[None])
    batch.reset(1, 0)
    alone.reset(0)
    for seen in np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32):
        np.testing.assert_array_equal(batch.act(np.tile(seen, (3, 1)))[1], alone.act(seen))


def test_members_in_lock_step_by_a_builder_of_ones_own_are_those_evaluated_alone() -> None:
    """The canary plays both and compares them."""
    table = {"env": CART_POLE, "policy": {"kind": f"{OWN}:Leaky"}, "batch_members": 3}
    found = parse(table, "test")
    rollout = Rollout(found)
    algorithm = make_strategy(found, rollout.policy.layout)
    player = make_player(rollout, algorithm, 1, 0)
    assert player.same_bits
    canary.compute(rollout, algorithm, player, rollout.policy.initial_parameters(0), VERSION)


def test_a_lock_step_builder_that_is_not_there_is_named() -> None:
    found = config(f"{OWN}:WrongBuilder")
    with pytest.raises(
        UsageError, match=r"'tests.helpers.own_policies:nothing': can't be imported"
    ):
        make_batch_policy(found, built(found.policy), SEEN, torch.device("cpu"))


def test_a_compiled_step_of_ones_own_plays_whole_episodes_with_the_bits_of_python() -> None:
    outcomes = {}
    for kind in ("Leaky", "CompiledLeaky"):
        found = parse({"env": CART_POLE, "policy": {"kind": f"{OWN}:{kind}", "leak": 0.3}}, "test")
        rollout = Rollout(found)
        assert rollout.compiled == (kind == "CompiledLeaky")
        rollout.load([(0, rollout.policy.initial_parameters(1))])
        seeds = rollout.member_seeds(0, 0)
        outcomes[kind] = [rollout.play(seeds, stepwise=alone) for alone in (False, True)]
    texts = {repr(outcome) for both in outcomes.values() for outcome in both}
    assert len(texts) == 1, texts
    assert outcomes["Leaky"][0].steps > 5


def test_a_compiled_step_forgets_the_member_before() -> None:
    policy, fresh = (CompiledLeaky(SEEN, LeakySettings(0.9)) for _ in range(2))
    seen = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    policy.load(policy.initial_parameters(0))
    for observation in seen:
        policy.act(observation)
    for each in (policy, fresh):
        each.load(each.initial_parameters(1))
        each.reset(0)
    for observation in seen:
        np.testing.assert_array_equal(policy.act(observation), fresh.act(observation))


@pytest.mark.parametrize(
    ("address", "outputs", "message"),
    [
        (0, np.zeros(2, np.float32), "at 0: expected the address of a C function"),
        (None, np.zeros(2, np.float32), "at None: expected the address"),
        (8, np.zeros(2), r"outputs: float64 \[2\], expected a float32 vector"),
        (8, [0.0], r"outputs: \[0.0\], expected a float32 vector"),
        (8, np.zeros(4, np.float32)[::2], "outputs: not contiguous and writable"),
    ],
)
def test_a_compiled_step_that_cannot_be_called_is_a_clear_error(
    address: Any, outputs: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        c_step(address, np.zeros(1, np.float32), np.zeros(1, np.float32), outputs)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers kinds of policies by entry points, as installed ones do."""
    package = tmp_path / "leaky-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
    lines = [
        "[esd.policies]",
        f"leaky = {OWN}:LEAKY",
        f"leaky-class = {OWN}:Leaky",
        f"hebbian = {OWN}:LEAKY",
        "gone = not_installed_any_more:KIND",
    ]
    (package / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(vars(POLICIES), "installed", raising=False)
    yield
    monkeypatch.undo()
    vars(POLICIES).pop("installed", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_package_offers_a_descriptor_or_a_class() -> None:
    assert POLICIES.names()[-3:] == ["gone", "leaky", "leaky-class"]
    for kind in ("leaky", "leaky-class"):
        policy = built(config(kind, leak=0.125).policy)
        assert isinstance(policy, Leaky)
        assert policy.own.leak == 0.125
    # what a descriptor says is checked as soon as the config is read
    with pytest.raises(UsageError, match=r"policy.leek: unknown key of policy.kind = 'leaky', did"):
        config("leaky", leek=1)
    with pytest.raises(UsageError, match=r"policy.kind = 'leakey': did you mean 'leaky'"):
        config("leakey")


@pytest.mark.usefixtures("installed")
def test_a_built_in_name_stays_what_it_is() -> None:
    assert type(built(config("hebbian").policy)).__name__ == "HebbianPolicy"


@pytest.mark.usefixtures("installed")
def test_an_entry_point_that_leads_nowhere_is_named() -> None:
    with pytest.raises(UsageError, match=r"'gone': not_installed_any_more:KIND can't be imported"):
        config("gone")


def test_every_setting_of_every_kind_is_described() -> None:
    described = describe_settings()
    for name in POLICIES.built_in:
        keys = to_table(POLICIES.find(name).settings())
        assert {f"policy.<{name}>.{key}" for key in keys} <= set(described)
    assert "policy.<module:Class>.kwargs" in described
    assert "policy.<module:Class>.own" not in described


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worked example of docs/policies.md, in a folder as its reader has it."""
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
    section = page[page.index("## Add a policy kind of your own") :]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    experiment, entry_points = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    assert 'entry-points."esd.policies"' in entry_points
    (tmp_path / "my_policies.py").write_text(code)
    (tmp_path / "my_experiment.toml").write_text(experiment)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_policies", None)


def test_the_worked_example_of_the_documentation_trains_and_resumes(example: Path) -> None:
    _, table = read_experiment("my_experiment.toml")
    assert table["policy"] == {"kind": "my_policies:TracePolicy", "keep": 0.5}
    table = apply_settings(table, [*SMALL, "generations=2", "env.max_steps=30"])
    ending = trained(parse(table, "example"), example / "run")
    stored = RunFolder(example / "run").config()
    assert stored.policy.settings.own == {"keep": 0.5}
    trained(dataclasses.replace(stored, generations=3), example / "run")
    assert from_journal(example / "run").generation == 3
    assert ending.reason
    with pytest.raises(UsageError, match=r"policy.keep = 2.0: expected 0 to 1"):
        built(config("my_policies:TracePolicy", keep=2.0).policy)


def test_the_module_of_the_documentation_learns_by_gradients_while_it_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
    (code,) = re.findall(r'```python\n("""my_learner.py.*?)```', page, re.DOTALL)
    (tmp_path / "my_learner.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = apply_settings({}, [*SMALL, "generations=1", "env.max_steps=30"])
    settings["policy"] = {"kind": "my_learner:Predictor"}
    assert trained(parse(settings, "test"), tmp_path / "run").finished
    module = built(config("my_learner:Predictor").policy)
    module.reset(0)
    errors = []
    for _ in range(50):  # the same observation again and again is learned
        module.act(np.float32([0.1, -0.2, 0.3, 0.4]))
        seen = torch.tensor([0.1, -0.2, 0.3, 0.4])
        guess = module.module.learned @ module.module.features
        errors.append(float((seen - guess).square().sum()))
    assert errors[-1] < 0.1 * errors[0]


def test_a_run_keeps_the_defaults_of_a_class_that_is_changed_later(example: Path) -> None:
    file, command = Path("my_experiment.toml"), TrainRequest("my_experiment.toml", Path("run"))
    shortened = apply_settings({}, [*SMALL, "generations=2", "env.max_steps=30"])
    shortened["policy"] = {"kind": "my_policies:TracePolicy"}
    file.write_text(tomli_w.dumps(shortened))
    trained(make_plan(command, pytest.fail).config, Path("run"))
    stored = RunFolder(Path("run")).config()
    assert stored.policy.settings.own == {"keep": 0.9}
    assert make_plan(command, pytest.fail).finished
    code = Path("my_policies.py").read_text()
    Path("my_policies.py").write_text(code.replace("0.9,", "0.125,"))
    sys.modules.pop("my_policies")
    importlib.invalidate_caches()
    assert built(stored.policy).keep == np.float32(0.9)
    with pytest.raises(UsageError, match=r"policy.keep = 0.125, but the run has 0.9"):
        make_plan(command, pytest.fail)
    more = TrainRequest(run=Path("run"), settings=["generations=3"])
    assert make_plan(more, pytest.fail).config.policy == stored.policy


def test_a_run_of_before_defaults_were_stored_can_be_taken_up_again(example: Path) -> None:
    earlier, now = (config("my_policies:TracePolicy", **own) for own in ({}, {"keep": 0.5}))
    assert with_own_defaults(earlier).policy.settings.own == {"keep": 0.9}
    assert with_own_defaults(earlier, like=earlier) is earlier
    assert with_own_defaults(earlier, like=now).policy.settings.own == {"keep": 0.9}
    assert with_own_defaults(now).policy.settings.own == {"keep": 0.5}


def test_the_worked_example_is_a_kind_of_the_project_by_one_line(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file, with the descriptor that the page names, and the line in ``POLICIES``."""
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
    (descriptor,) = re.findall(r"`(TRACE = .*?)`", page)
    code = (example / "my_policies.py").read_text()
    whole = f"from esd.policies.kind import PolicyKind\n{code}\n\n{descriptor}\n"
    (example / "my_policies.py").write_text(whole)
    monkeypatch.setitem(POLICIES.built_in, "trace", "my_policies:TRACE")  # type: ignore[misc]
    policy = built(config("trace", keep=0.25).policy)
    assert policy.keep == np.float32(0.25)
    assert "policy.<trace>.keep" in describe_settings()
    with pytest.raises(UsageError, match=r"policy.kep: unknown key .*'trace', did you mean 'keep'"):
        config("trace", kep=0.25)
