"""What every policy has to keep, built in or a user's: one body for all."""

from __future__ import annotations

import numpy as np
import pytest

from esd.config import kinds
from esd.config.policies import PolicyConfig
from esd.config.tables import parse
from esd.errors import UsageError
from esd.policies import registry
from esd.policies.base import Interface, LoadsPieces, Policy
from esd.policies.guard import unguarded
from esd.policies.hebbian import RULE_COEFFICIENTS
from esd.policies.registry import make_policy
from tests.helpers.configs import REMEMBERING
from tests.helpers.user_code import CountingPolicy

POLICIES = {
    # every kind of the table as it is by default, so that a new one is tested without a line here
    **{f"{name} by default": {"kind": name} for name in kinds.POLICIES.built_in},
    "hebbian": {"kind": "hebbian", "hidden": [9]},
    "hebbian, coevolved, l2": {
        "kind": "hebbian",
        "hidden": [9],
        "initial_weights": "coevolved",
        "normalization": "l2",
    },
    "static": {"kind": "static", "hidden": [9, 5]},
    "static without hidden layers, order F": {"kind": "static", "hidden": [], "order": "F"},
    **REMEMBERING,
    "reformer with keys of its own": {"kind": "reformer", "width": 5, "gate": True},
    "reformer, order F": {
        "kind": "reformer",
        "heads": 2,
        "blocks": 2,
        "units": 5,
        "keys": "shared",
        "attention": "full",
        "head": "ABCD_lr",
        "order": "F",
    },
    "a user's class": {"kind": "tests.helpers.user_code:CountingPolicy"},
    "a user's class with settings": {"kind": "tests.helpers.own_policies:Leaky", "leak": 0.3},
    "a user's class with a compiled step": {"kind": "tests.helpers.own_policies:CompiledLeaky"},
    "a user's descriptor": {"kind": "tests.helpers.own_policies:LEAKY"},
    "a torch module": {"kind": "tests.helpers.user_code:SmallModule", "kwargs": {"hidden": 6}},
    "a torch module with a memory": {"kind": "tests.helpers.user_code:RecurrentModule"},
}


@pytest.fixture(params=POLICIES)
def settings(request: pytest.FixtureRequest) -> PolicyConfig:
    """Every kind of policy."""
    return parse({"policy": POLICIES[request.param]}, "test").policy


@pytest.fixture(params=[False, True], ids=["raw", "bounded"])
def policy(settings: PolicyConfig, request: pytest.FixtureRequest) -> Policy:
    """Every kind of policy, for bounded and other actions."""
    return make_policy(settings, Interface(4, 3, request.param))


def episode(policy: Policy, seed: int, steps: int = 6, scale: float = 1.0) -> np.ndarray:
    """Outputs of an episode, [steps, action_size]."""
    seen = np.random.default_rng(seed).standard_normal((steps, 4)).astype(np.float32)
    policy.reset(seed)
    return np.array([policy.act(observation).copy() for observation in np.float32(scale) * seen])


def test_initial_parameters_are_a_pure_function_of_the_seed(policy: Policy) -> None:
    first, again = policy.initial_parameters(5), policy.initial_parameters(5)
    assert first.dtype == np.float32
    assert first.shape == (policy.layout.size,)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, policy.initial_parameters(6))


def test_an_episode_is_the_same_bits_whatever_was_played_before(policy: Policy) -> None:
    h = policy.initial_parameters(1)
    policy.load(h)
    first = episode(policy, 7)
    episode(policy, 8, steps=31)
    np.testing.assert_array_equal(episode(policy, 7), first)
    policy.load(policy.initial_parameters(2))
    episode(policy, 9)
    policy.load(h)
    np.testing.assert_array_equal(episode(policy, 7), first)


@pytest.mark.parametrize("scale", [1e30, np.nan], ids=["overflow", "NaN"])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_numbers_that_overflow_leave_nothing_for_the_next_member(
    policy: Policy, scale: float
) -> None:
    h = policy.initial_parameters(1)
    policy.load(h)
    first = episode(policy, 7)
    policy.load(np.full_like(h, 1e30))
    episode(policy, 8, steps=31, scale=scale)
    policy.load(h)
    np.testing.assert_array_equal(episode(policy, 7), first)
    assert np.isfinite(first).all()


def test_outputs_have_the_right_shape_and_bounds(policy: Policy) -> None:
    policy.load(policy.initial_parameters(1))
    outputs = episode(policy, 3)
    assert outputs.shape == (6, 3)
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    if policy.squashed:
        assert np.abs(outputs).max() <= 1.0


def test_parameters_change_the_outputs(policy: Policy) -> None:
    policy.load(policy.initial_parameters(1))
    first = episode(policy, 3)
    policy.load(policy.initial_parameters(2))
    assert not np.array_equal(episode(policy, 3), first)


def test_the_array_given_to_load_may_change_after_the_next_load(policy: Policy) -> None:
    buffer = policy.initial_parameters(1)
    policy.load(buffer)
    first = episode(policy, 3)
    buffer[...] = policy.initial_parameters(2)
    policy.load(policy.initial_parameters(1))
    np.testing.assert_array_equal(episode(policy, 3), first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": [10**8, 10**8]}, "does not fit into memory (Unable to allocate 178. PiB"),
        ({"kind": "static", "hidden": [10**15]}, "does not fit into memory (Unable to allocate"),
        ({"kind": "gru", "units": 10**8}, "does not fit into memory (Unable to allocate 107. PiB"),
        ({"hidden": [2**62]}, "does not fit into memory"),
        ({"hidden": [2**62, 2**62, 3]}, "does not fit into memory"),
        ({"kind": "static", "hidden": [2**59]}, "does not fit into memory"),
        ({"kind": "gru", "units": 2**40}, "does not fit into memory"),
        ({"kind": "reformer", "width": 2**40}, "does not fit into memory"),
        ({"kind": "reformer", "capacity": 2**40}, "policy."),
        (
            {"kind": "gru", "units": 1000},
            "has 3,017,002 parameters, which need 24 MB at least, but there are 1 MB",
        ),
        ({"hidden": [10**8, 10**8]}, "use smaller layers than policy.hidden = [100000000, 1000000"),
    ],
)
def test_a_network_that_no_memory_holds_is_refused(
    settings: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "memory_bytes", lambda: 10**6)
    with pytest.raises(UsageError) as caught:
        make_policy(parse({"policy": settings}, "test").policy, Interface(4, 2, False))
    assert message in str(caught.value)


def test_the_users_class_is_really_the_users() -> None:
    settings = parse({"policy": {"kind": "tests.helpers.user_code:CountingPolicy"}}, "test").policy
    assert isinstance(unguarded(make_policy(settings, Interface(4, 3, False))), CountingPolicy)


RULES_AND_ORDERS = [
    {"kind": "hebbian", "hidden": [9], "rule": rule, "order": order}
    for rule in RULE_COEFFICIENTS
    for order in ("C", "F")
] + [
    {"kind": "hebbian", "hidden": [9], "initial_weights": "coevolved", "order": "F"},
    {"kind": "static", "hidden": [9, 5], "order": "C"},
    {"kind": "static", "hidden": [9, 5], "order": "F"},
]


@pytest.mark.parametrize("settings", RULES_AND_ORDERS, ids=str)
@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_parameters_loaded_in_pieces_are_those_loaded_at_once(
    settings: dict[str, object], size: int
) -> None:
    """Also after another member: nothing of it is left."""
    whole, pieces = (
        make_policy(parse({"policy": settings}, "test").policy, Interface(4, 3, True))
        for _ in range(2)
    )
    h, another = whole.initial_parameters(1), whole.initial_parameters(2)
    whole.load(h)
    expected = episode(whole, 7)
    assert isinstance(pieces, LoadsPieces)
    for parameters in (another, h):
        for start in range(0, h.size, size):
            pieces.load_piece(start, parameters[start : start + size])
    np.testing.assert_array_equal(episode(pieces, 7), expected)
    pieces.load(another)
    assert not np.array_equal(episode(pieces, 7), expected)
