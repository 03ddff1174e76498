"""What a report computes of a Reformer's attention, against the policy itself and against a dense version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esd.errors import UsageError
from esd.policies.base import Interface
from esd.policies.reformer import ReformerPolicy, ReformerSettings
from esd.report.recall import measured
from esd.report.traces import Trace
from tests.helpers.oracles import lsh
from tests.helpers.oracles import reformer as oracle

STEPS, SEEN = 90, 5
CASES = {
    "own keys": ReformerSettings(width=8, heads=2, head_size=6, buckets=8, hashes=2, cap=4),
    "shared keys and a gate": ReformerSettings(
        width=8, head_size=6, buckets=8, hashes=1, keys="shared", gate=True, clock=()
    ),
    "two blocks with units": ReformerSettings(
        width=8, head_size=6, buckets=16, hashes=2, blocks=2, units=7, normalize=True, capacity=30
    ),
}


def played(settings: ReformerSettings) -> tuple[ReformerPolicy, np.ndarray, Trace]:
    """A policy, its h, and what ``esd eval --trace`` would record of it on random observations."""
    policy = ReformerPolicy(Interface(SEEN, 3, False), settings)
    rng = np.random.default_rng(1)
    h = policy.initial_parameters(3) + rng.normal(0, 0.2, policy.layout.size).astype(np.float32)
    policy.load(h)
    policy.reset(0)
    seen = rng.normal(size=(STEPS, SEEN)).astype(np.float32)
    read = []
    for observation in seen:
        policy.act(observation)
        read.append(policy.activities()[0].copy())
    rewards = np.zeros(STEPS, np.float32)
    trace = Trace(Path("t"), {}, STEPS, rewards, seen, np.arange(1), [], [np.array(read)])
    return policy, h, trace


@pytest.mark.parametrize("name", CASES)
def test_recall_is_the_share_of_full_attention_on_the_keys_found(name: str) -> None:
    settings = CASES[name]
    policy, h, trace = played(settings)
    arrays = policy.layout.unpack(h)
    heads = measured(arrays, settings, trace)
    assert len(heads) == settings.blocks * settings.heads
    # the first block by dense masks in float64: queries, keys and buckets as the oracle makes them
    time = oracle.clock(STEPS, settings.clock)
    x = np.concatenate([trace.observations, time], axis=1) @ arrays["embed"].astype(np.float64)
    read = oracle.with_one(oracle.normalized(x) if settings.normalize else x)
    query = (read @ arrays["block0.query"])[:, : settings.head_size]
    key = (
        query
        if settings.keys == "shared"
        else (read @ arrays["block0.key"])[:, : settings.head_size]
    )
    written = np.ones(STEPS, bool)
    if settings.gate:
        written = (read @ arrays["block0.gate"])[:, 0] > 0
    by = oracle.factors(settings.buckets)
    rows = lsh.rotations(settings.hash_seed, settings.head_size, settings.hashes, by, 0)
    of_query, of_key = (lsh.buckets(v.astype(np.float32), rows, by) for v in (query, key))
    scale = np.exp(arrays["block0.sharpness"][0, 0]) / np.sqrt(settings.head_size)
    if settings.keys == "shared":
        key, scale = (
            key / np.linalg.norm(key, axis=1, keepdims=True),
            scale * np.sqrt(settings.head_size),
        )
    expected = np.full(STEPS, np.nan)
    for t in range(STEPS):
        known = np.flatnonzero(written[:t])[-settings.capacity :]
        found = {
            int(k)
            for q, ks in zip(of_query, of_key, strict=True)
            for k in known[ks[known] == q[t]][-settings.cap :]
        }
        mass = np.exp(query[t] @ key[known].T * scale)
        if known.size:
            expected[t] = mass[[i for i, k in enumerate(known) if k in found]].sum() / mass.sum()
    np.testing.assert_allclose(heads[0].telemetry.recalled, expected, atol=2e-3)
    assert 0.05 < np.nanmean(expected) < 0.99  # so that the comparison says something


def test_a_trace_of_other_parameters_is_noticed() -> None:
    settings = CASES["own keys"]
    policy, h, trace = played(settings)
    with pytest.raises(UsageError, match="differ from the recording"):
        measured(policy.layout.unpack(h + np.float32(0.3)), settings, trace)
