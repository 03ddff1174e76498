"""The peers do the same work as esd."""

from __future__ import annotations

import importlib.util
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import attention, hebbian
from benchmarks.noise import _sum_of_slices
from esd.attention.hashing import angular, one_bucket
from esd.attention.stream import Limits, Stream
from tests.helpers.oracles.hebbian import HebbianOracle

SIZES = (5, 8, 4)  # the largest weight of the first layer is positive, of the second negative
OBSERVATION = np.random.default_rng(1).standard_normal(SIZES[0]).astype(np.float32)


def outputs(name: str, steps: int) -> list[npt.NDArray[np.float32]]:
    """What a peer's network says to the same observation, step by step."""
    step = getattr(hebbian, f"{name}_step")(SIZES, OBSERVATION)
    return [np.array(step()) for _ in range(steps)]


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_plastic_step_of_a_peer_is_the_oracles(name: str) -> None:
    """In a process of its own: jax warns of every fork that follows it."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'esd-mpi[benchmarks]'")
    layers = hebbian.coefficients(SIZES)
    oracle = HebbianOracle(
        [dict(zip("ABCD", layer, strict=False)) for layer in layers],
        [layer[4] for layer in layers],
        normalization="max",
        hidden_activation="tanh",
        bounded=True,
    )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        found = executor.submit(outputs, name, 5).result()
    for output in found:
        np.testing.assert_allclose(output, oracle.forward(OBSERVATION), atol=1e-5)
        oracle.update()


def test_the_compiled_loop_over_a_noise_table_is_a_weighted_sum() -> None:
    table = np.random.default_rng(0).standard_normal(20_000, np.float32)
    offsets = np.array([0, 77, 9_000])
    weights = np.array([1.0, -0.5, 0.25], np.float32)
    out = np.empty(5_000, np.float32)
    _sum_of_slices(table, offsets, weights, out)
    expected = sum(w * table[o : o + out.size] for w, o in zip(weights, offsets, strict=True))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_networks_are_those_of_the_paper() -> None:
    connections = {
        name: sum(a * b for a, b in itertools.pairwise(sizes))
        for name, sizes in hebbian.NETWORKS.items()
    }
    assert list(connections.values()) == [12_288, 91_328]


def test_full_attention_of_a_peer_is_that_of_a_stream_with_one_bucket() -> None:
    keys, values = attention.drawn(0, 2, 300, attention.SIZE)
    query = 3 * attention.drawn(1, attention.SIZE)
    stream = attention.filled(one_bucket(attention.SIZE), keys, values, 300)
    expected = stream.step(query, values[0], keys[0])
    assert stream.candidates == 300
    np.testing.assert_allclose(attention.numpy_full(keys, values)(query), expected, atol=1e-5)
    np.testing.assert_allclose(attention.torch_full(keys, values)(query), expected, atol=1e-5)


def test_a_stream_that_was_filled_is_one_that_took_every_step() -> None:
    keys, values = attention.drawn(0, 2, 200, attention.SIZE)
    queries, new_values, new_keys = attention.drawn(1, 3, 100, attention.SIZE)
    hashed = angular(0, attention.SIZE, 3, 16)
    filled = attention.filled(hashed, keys, values, 20)
    stepped = Stream(hashed, attention.SIZE, Limits(20, 200))
    stepped.steps(keys, values, keys)
    for found, expected in zip(
        filled.steps(queries, new_values, new_keys),
        stepped.steps(queries, new_values, new_keys),
        strict=True,
    ):
        assert np.array_equal(found, expected)


def test_repeats_have_the_cosine_they_are_asked_for() -> None:
    keys = attention.drawn(0, 50, attention.SIZE)
    for cosine in (1.0, 0.8):
        found, which = attention.repeats(keys, cosine, 200)
        along = keys[which] / np.linalg.norm(keys[which], axis=1, keepdims=True)
        np.testing.assert_allclose((found * along).sum(axis=1), cosine, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
