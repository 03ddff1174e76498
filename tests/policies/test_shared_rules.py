"""Rules that synapses share: their network, how they are merged, and runs that begin with merged ones."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from esd.api.ranks import failures_raised
from esd.commands.console import Quiet
from esd.errors import UsageError
from esd.evaluation.of_run import load
from esd.evaluation.test_episodes import choose, make_rollout
from esd.mpi.comm import Alone
from esd.policies import shared_rules
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.run.folder import RunFolder
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.configs import SMALL, small
from tests.helpers.training import from_journal, trained

INTERFACE = Interface(4, 3, True)
SETTINGS = HebbianSettings(hidden=(5,), rules=6)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rule", ["ABCD_lr", "AD"])
def test_a_network_is_that_of_its_synapses_own_rules(rule: str, order: str) -> None:
    settings = dataclasses.replace(SETTINGS, rule=rule, order=order)
    policy = HebbianPolicy(INTERFACE, settings)
    own = HebbianPolicy(INTERFACE, dataclasses.replace(settings, rules=0))
    h = policy.initial_parameters(1)
    assert h.size == 6 * {"ABCD_lr": 5, "AD": 2}[rule]
    # by hand: the rule of the synapse from input 2 to output 1 of the last layer
    arrays = own.layout.unpack(np.zeros(own.layout.size, np.float32))
    assignment, start = shared_rules.assignment_of("", 4 * 5 + 5 * 3, 6), 0
    for layer, (inputs, outputs) in enumerate([(4, 5), (5, 3)]):
        for i in range(inputs):
            for j in range(outputs):
                followed = assignment[start + i * outputs + j]
                for name in arrays:
                    if name.startswith(f"layer{layer}."):
                        coefficient = name.partition(".")[2]
                        arrays[name][i, j] = policy.layout.unpack(h)[f"rules.{coefficient}"][
                            followed
                        ]
        start += inputs * outputs
    whole = own.layout.pack(arrays)
    played = []
    for one, parameters in ((policy, h), (own, whole)):
        one.load(parameters)
        one.reset(3)
        played.append([one.act(np.full(4, 0.2, np.float32)).copy() for _ in range(6)])
    np.testing.assert_array_equal(*played)
    np.testing.assert_array_equal(policy.coefficients(h), own.coefficients(whole))
    np.testing.assert_array_equal(policy.shared(own.coefficients(whole)), h)
    pieces = HebbianPolicy(INTERFACE, settings)
    for first in range(0, h.size, 5):
        pieces.load_piece(first, h[first : first + 5])
    pieces.reset(3)
    np.testing.assert_array_equal(pieces.act(np.full(4, 0.2, np.float32)), played[0][0])


def test_k_means_finds_groups_that_lie_apart_and_the_same_ones_again() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(4, size=200)
    centers = 10.0 * rng.standard_normal((4, 5))
    vectors = (centers[groups] + 0.1 * rng.standard_normal((200, 5))).astype(np.float32)
    found = shared_rules.merged(vectors, 4, seed=1)
    assert len({*zip(groups.tolist(), found.tolist(), strict=True)}) == 4
    np.testing.assert_array_equal(found, shared_rules.merged(vectors, 4, seed=1))
    means = shared_rules.means(vectors, found, 4)
    np.testing.assert_allclose(means[found[0]], vectors[groups == groups[0]].mean(0), atol=1e-5)
    # fewer different vectors than rules
    assert {*shared_rules.merged(vectors[:1].repeat(9, axis=0), 4, seed=0).tolist()} == {0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"assignment": "x"}, "policy.assignment: is not base64"),
        ({"assignment": shared_rules.encoded(np.arange(5))}, "assigns 5 synapses to 5 rules"),
        ({"assignment": shared_rules.encoded(np.full(35, 6))}, "to 7 rules"),
        ({"initial_weights": "coevolved"}, "policy.rules = 6: initial_weights"),
        ({"convolutions": True}, "policy.rules = 6: can't be combined with policy.convolutions"),
    ],
)
def test_what_is_no_assignment_of_a_network_is_refused(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        HebbianPolicy(INTERFACE, dataclasses.replace(SETTINGS, **settings))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


PENDULUM = (*SMALL, "env.max_steps=40", "seed=2", "policy.hidden=[5]")


def child_of(parent: Path, folder: Path, *settings: str) -> None:
    """Train a child as ``esd train pendulum --from`` does."""
    request = TrainRequest("pendulum", folder, (*PENDULUM, *settings), start_from=parent)
    with failures_raised():
        train(Alone(), make_plan(request, lambda text: None), StopRequest(), Quiet())


def test_a_run_begins_with_merged_rules_and_goes_on_without_its_parent(tmp_path: Path) -> None:
    trained(small("pendulum", *PENDULUM), tmp_path / "first")
    child_of(tmp_path / "first", tmp_path / "whole", "policy.rules=8")
    child_of(tmp_path / "first", tmp_path / "parts", "policy.rules=8", "generations=2")
    parent = from_journal(tmp_path / "first")
    config = RunFolder(tmp_path / "whole").config()
    policy = HebbianPolicy(Interface(3, 1, True), config.policy.settings)
    vectors = HebbianPolicy(
        Interface(3, 1, True), small("pendulum", *PENDULUM).policy.settings
    ).coefficients(parent.h)
    followed = shared_rules.merged(vectors, 8, seed=2)
    h = from_journal(tmp_path / "whole", 0).h
    np.testing.assert_array_equal(
        h, shared_rules.means(vectors, followed, 8).astype(np.float32).T.ravel()
    )
    assert policy.layout.size == h.size == 8 * 5
    # the same command goes on with it, and so does one without --from, as esd launch restarts it
    child_of(tmp_path / "first", tmp_path / "parts", "policy.rules=8", "generations=3")
    again = (*PENDULUM, "policy.rules=8", "generations=4")
    plan = make_plan(TrainRequest("pendulum", tmp_path / "parts", again), print)
    assert plan.resumes and plan.config.policy.settings.assignment  # noqa: PT018
    # the same number of rules: the same synapses follow them
    child_of(tmp_path / "whole", tmp_path / "same", "policy.rules=8", "generations=0")
    same = RunFolder(tmp_path / "same").config().policy.settings
    assert same.assignment == config.policy.settings.assignment
    assert same.assignment == shared_rules.encoded(followed)
    # once more, from eight rules to three
    child_of(tmp_path / "whole", tmp_path / "third", "policy.rules=3")
    assert from_journal(tmp_path / "third").h.size == 3 * 5
    shutil.rmtree(tmp_path / "first")
    request = TrainRequest(None, tmp_path / "parts", ("generations=5",))
    with failures_raised():
        train(Alone(), make_plan(request, lambda text: None), StopRequest(), Quiet())
    ends = [
        load(RunFolder(tmp_path / name), "last", print)[1].sha256() for name in ("whole", "parts")
    ]
    assert ends[0] == ends[1] == from_journal(tmp_path / "whole").sha256()


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose synapses have rules of their own, one that shares six at random, and one whose rules are merged."""
    folder = tmp_path_factory.mktemp("parents")
    few = (*PENDULUM, "generations=1")
    trained(small("pendulum", *few), folder / "own")
    trained(small("pendulum", *few, "policy.rules=6"), folder / "shared")
    child_of(folder / "own", folder / "merged", "policy.rules=6", "generations=1")
    return folder


ANOTHER = r"its h was evolved for another network: policy\.{}, but .* has {}"


@pytest.mark.parametrize(
    ("parent", "settings", "message"),
    [
        ("shared", ["policy.rules=0"], r"6 rules, .*policy\.rules = 0.*--set policy\.rules=6"),
        ("merged", ["policy.rules=0"], r"6 rules, .*policy\.rules = 0.*--set policy\.rules=6"),
        (
            "own",
            ["policy.rules=6", "policy.hidden=[7]"],
            ANOTHER.format(r"hidden = \[7\]", r"\[5\]"),
        ),
        (
            "own",
            ["policy.rules=6", "policy.rule=ABCD"],
            ANOTHER.format("rule = 'ABCD'", "'ABCD_lr'"),
        ),
        ("shared", ["policy.hidden=[48]"], ANOTHER.format(r"hidden = \[48\]", r"\[5\]")),
        ("merged", ["policy.hidden=[48]"], ANOTHER.format(r"hidden = \[48\]", r"\[5\]")),
        (
            "merged",
            ["policy.rules=3", "policy.hidden=[5, 5]"],
            ANOTHER.format(r"hidden = \[5, 5\]", r"\[5\]"),
        ),
        (
            "shared",
            ["env.id=MountainCarContinuous-v0"],
            "another network, with 3 .* has 2 observations",
        ),
        ("merged", ["env.id=MountainCarContinuous-v0"], "assigns 20 synapses .* environment"),
        ("own", ["policy.rules=65537"], r"^--set: policy\.rules = 65537"),
    ],
)
@pytest.mark.parametrize("experiment", ["pendulum", None])
def test_a_start_with_rules_of_another_network_is_refused_with_the_cause(
    parents: Path, tmp_path: Path, experiment: str | None, parent: str, settings: list[str], message: str
) -> None:  # fmt: skip
    shared = () if experiment is None or parent == "own" else ("policy.rules=6",)
    given = (*(() if experiment is None else PENDULUM), *shared, *settings)
    request = TrainRequest(experiment, tmp_path / "child", given, start_from=parents / parent)
    with pytest.raises(UsageError, match=message) as error, failures_raised():
        train(Alone(), make_plan(request, lambda text: None), StopRequest(), Quiet())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "child").exists()


def test_a_start_whose_parent_has_lost_its_journal_is_possible(
    parents: Path, tmp_path: Path
) -> None:
    shutil.copytree(parents / "shared", tmp_path / "shared")
    (tmp_path / "shared" / "journal.bin").unlink()
    child_of(tmp_path / "shared", tmp_path / "child", "policy.rules=6", "generations=1")
    np.testing.assert_array_equal(
        from_journal(tmp_path / "child", 0).h, from_journal(parents / "shared").h
    )


def test_an_objective_has_no_rules(parents: Path, tmp_path: Path) -> None:
    request = TrainRequest("rosenbrock", tmp_path / "child", start_from=parents / "shared")
    with pytest.raises(UsageError, match="belongs to a policy"), failures_raised():
        train(Alone(), make_plan(request, lambda text: None), StopRequest(), Quiet())


def test_another_assignment_of_as_many_rules_is_refused_with_the_setting_to_remove(
    parents: Path, tmp_path: Path
) -> None:
    own = shared_rules.encoded(np.arange(20) % 6)
    for parent in ("shared", "merged"):
        given = ("policy.rules=6", f"policy.assignment={own}")
        with pytest.raises(UsageError, match=r"assigned .* differently; remove policy.assignment"):
            child_of(parents / parent, tmp_path / "child", *given)


@pytest.mark.parametrize("parent", ["shared", "merged"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "policy.hidden=[48]",
            r"hidden = \[48\], but the run has \[5\]: h was evolved for another network",
        ),
        ("policy.rules=3", "rules = 3, but the run has 6: h was evolved for another network"),
        ("policy.rules=0", "rules = 0, but the run has 6: h was evolved for another network"),
        ("env.id=MountainCarContinuous-v0", "2 observations|use the environment"),
    ],
)
def test_an_evaluation_of_shared_rules_in_another_network_is_refused(
    parents: Path, parent: str, setting: str, message: str
) -> None:
    run = RunFolder(parents / parent)
    config, state, _ = load(run, "last", print)
    with pytest.raises(UsageError, match=message) as error:
        make_rollout(choose(config, None, [setting], []), state)
    assert "\n" not in str(error.value)
    make_rollout(
        choose(config, None, ["policy.freeze_after=3", "env.kwargs.g=3"], []), state
    ).close()
