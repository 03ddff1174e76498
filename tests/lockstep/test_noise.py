"""Law 2 on a torch device: a perturbation is the bits that the CPU's update rebuilds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evolution.layout import Layout
from esd.evolution.low_rank import LowRankNoise
from esd.evolution.noise import NOISE_KINDS, Noise
from esd.kernels import elementary as kernels
from esd.lockstep import elementary
from esd.lockstep.noise import COORDINATES_AT_ONCE, epsilon, perturbed

WORDS = st.integers(0, 2**32 - 1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal as bits: −0 is not 0, and a NaN is itself."""
    return bool(a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32)))


@pytest.mark.parametrize("kind", NOISE_KINDS)
@settings(deadline=None)  # the first example compiles
@given(
    seed=st.integers(0, 2**64 - 1), pairs=st.lists(WORDS, min_size=1, max_size=3), data=st.data()
)
def test_epsilon_is_the_kernels_bits(
    kind: str, device: torch.device, seed: int, pairs: list[int], data: st.DataObject
) -> None:
    generation = data.draw(WORDS)
    size = data.draw(st.integers(1, 4000))
    noise = Noise(kind, seed)
    on_torch = epsilon(noise, torch.tensor(pairs, device=device), generation, size).cpu().numpy()
    for pair, values in zip(pairs, on_torch, strict=True):
        assert same_bits(values, noise.epsilon(pair, generation, 0, size))


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_perturbed_parameters_are_the_bits_of_ask(kind: str, device: torch.device) -> None:
    h = np.random.default_rng(0).standard_normal(61_440).astype(np.float32)
    h[:7] = -0.0
    members = [5, 0, 1, 4, *range(100, 140)]
    assert len(members) * h.size > COORDINATES_AT_ONCE, "all at once: no seam is tested"
    on_device = torch.from_numpy(h).to(device)
    on_torch = perturbed(Noise(kind, 9), on_device, 0.07, members, 2**32 - 1).cpu().numpy()
    expected = np.empty_like(h)
    for member, values in zip(members, on_torch, strict=True):
        Noise(kind, 9).perturb(h, 0.07, member, 2**32 - 1, expected)
        assert same_bits(values, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("sigma", [0.07, "of each coordinate"])
def test_members_perturbed_by_low_rank_noise_are_the_bits_of_ask(
    order: str, rank: int, sigma: float | str, device: torch.device
) -> None:
    shapes = {"w": (260, 140), "b": (1500,), "kernel": (8, 5, 3, 3), "tiny": (2, 2), "v": (40, 30)}
    layout = Layout(shapes, order)  # type: ignore[arg-type]
    noise, rng = LowRankNoise("low_rank", 2**63 + 5, rank, layout), np.random.default_rng(0)
    h = rng.standard_normal(layout.size).astype(np.float32)
    members = [5, 0, 1, 4, *range(100, 140)]
    assert len(members) * h.size < COORDINATES_AT_ONCE < 2 * len(members) * h.size
    members += members  # several at once, and a seam
    scale = sigma if isinstance(sigma, float) else rng.random(h.size, np.float32)
    factor = scale if isinstance(scale, float) else torch.from_numpy(scale).to(device)
    on_device = torch.from_numpy(h).to(device)
    on_torch = perturbed(noise, on_device, factor, members, 2**32 - 1).cpu().numpy()
    expected = np.empty_like(h)
    for member, values in zip(members, on_torch, strict=True):
        noise.perturb(h, scale, member, 2**32 - 1, expected)
        assert same_bits(values, expected)


def test_elementary_functions_are_the_kernels_bits(device: torch.device) -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 100_003, np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        x = np.concatenate([anything, rng.normal(0, 4, 100_000).astype(np.float32)])
    expected = np.array([kernels.tanh(value) for value in x], np.float32)
    result = elementary.tanh(torch.from_numpy(x).to(device)).cpu().numpy()
    finite = ~np.isnan(expected)
    assert same_bits(result[finite], expected[finite])
    assert np.isnan(result[~finite]).all()


def test_the_square_root_is_rounded_to_nearest_and_torchs_own_is_not_needed(
    device: torch.device,
) -> None:
    x = np.random.default_rng(0).uniform(0, 50, 100_000).astype(np.float32)
    x[:3] = 0.0, np.inf, np.float32(1e-45)
    roots = elementary.square_root(torch.from_numpy(x).to(device)).cpu().numpy()
    assert same_bits(roots, np.sqrt(x))


def test_a_multiplication_and_addition_contracted_into_one_rounding_would_be_noticed() -> None:
    rng = np.random.default_rng(0)
    h, e = rng.standard_normal((2, 1000)).astype(np.float32)
    contracted = (np.float64(np.float32(0.07)) * e + h).astype(np.float32)
    assert not same_bits(contracted, h + np.float32(0.07) * e)
