"""The gated recurrent unit against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esd.policies.base import Interface
from esd.policies.gru import GruPolicy, GruSettings
from tests.helpers.oracles.reformer import clock

SEEN, ACTIONS, STEPS = 3, 2, 100


@pytest.mark.parametrize("periods", [(), (4, 10)])
@pytest.mark.parametrize("units", [1, 7, 16])
def test_an_episode_agrees_with_torchs(units: int, periods: tuple[int, ...]) -> None:
    policy = GruPolicy(Interface(SEEN, ACTIONS, False), GruSettings(units=units, clock=periods))
    h = policy.initial_parameters(3)
    arrays = policy.layout.unpack(h)
    policy.load(h)
    policy.reset(0)
    seen = np.random.default_rng(1).standard_normal((STEPS, SEEN)).astype(np.float32)
    found = np.array([policy.act(observation).copy() for observation in seen])

    time = clock(STEPS, periods).astype(np.float32)
    inputs = torch.from_numpy(np.concatenate([seen, time], axis=1))
    peer = torch.nn.GRU(SEEN + 2 * len(periods), units)
    with torch.no_grad():
        peer.weight_ih_l0[:] = torch.from_numpy(arrays["input"][:-1].T.copy())
        peer.bias_ih_l0[:] = torch.from_numpy(arrays["input"][-1].copy())
        peer.weight_hh_l0[:] = torch.from_numpy(arrays["recurrent"].T.copy())
        peer.bias_hh_l0[:] = 0.0
        remembered = peer(inputs)[0].numpy()
    ones = np.ones((STEPS, 1), np.float32)
    expected = np.concatenate([remembered, ones], axis=1) @ arrays["head.layer0.w"]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_an_infinite_observation_leaves_nothing_for_the_next_member() -> None:
    policy = GruPolicy(Interface(SEEN, ACTIONS, True), GruSettings(head="ABCD"))
    h = policy.initial_parameters(3)
    played = []
    for bad in (1.0, np.nan, 1.0):
        policy.load(h)
        policy.reset(0)
        played.append([policy.act(np.full(SEEN, bad, np.float32)).copy() for _ in range(5)])
    np.testing.assert_array_equal(played[0], played[2])
    assert np.isnan(played[1]).any()
