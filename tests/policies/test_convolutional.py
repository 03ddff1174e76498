"""Convolutions in front of a network: as torch and plain numpy have them, and the laws of any policy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esd.config.tables import parse
from esd.errors import UsageError
from esd.policies.base import Interface, LoadsPieces, Traceable
from esd.policies.convolutional import ConvolutionalPolicy, areas
from esd.policies.registry import make_policy
from tests.helpers.oracles import convolution as oracle

Float32s = npt.NDArray[np.float32]


def started(
    size: int = 96, scale: float = 1.0, seed: int = 3, **settings: object
) -> tuple[ConvolutionalPolicy, Float32s]:
    """A policy that has begun an episode, and its parameters."""
    table = {"kind": "hebbian", "convolutions": True, "hidden": [8], **settings}
    policy = make_policy(parse({"policy": table}, "test").policy, Interface(3 * size**2, 3, True))
    assert isinstance(policy, ConvolutionalPolicy)
    h = policy.initial_parameters(seed)
    h[:1362] *= np.float32(scale)
    policy.load(h)
    policy.reset(seed)
    return policy, h


def picture(size: int, seed: int = 0) -> Float32s:
    """Any RGB pixels."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("size", [84, 96, 97, 200])
def test_features_are_the_plain_ones(size: int, order: str) -> None:
    policy, h = started(size, order=order)
    arrays = policy.layout.unpack(h)
    pixels = picture(size)
    expected = oracle.features(
        pixels.astype(np.float64),
        *(arrays[name].astype(np.float64) for name in ("conv1.w", "conv2.w")),
    )
    assert expected.std() > 0.01
    np.testing.assert_allclose(policy.see(pixels.reshape(-1)), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_features_are_those_of_torchs_conv2d(scale: float) -> None:
    """To 1e-5, also where tanh saturates; 84×84 pixels, so that nothing has to be shrunk."""
    policy, h = started(84, scale)
    arrays = policy.layout.unpack(h)
    pixels = picture(84)
    functional = torch.nn.functional
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255.0
    x = functional.conv2d(x, torch.from_numpy(arrays["conv1.w"].copy()))
    x = functional.max_pool2d(torch.tanh(x), 2)
    x = functional.conv2d(x, torch.from_numpy(arrays["conv2.w"].copy()), stride=2)
    x = functional.max_pool2d(torch.tanh(x), 2)
    np.testing.assert_allclose(policy.see(pixels.reshape(-1)), x.reshape(-1).numpy(), atol=1e-5)


def test_the_network_is_the_papers() -> None:
    """1,362 weights of convolutions and, with hidden 128 and 64, 456,640 coefficients."""
    policy, h = started(hidden=[128, 64])
    assert h.size == policy.layout.size == 1362 + 456_640
    static, _ = started(kind="static", hidden=[128, 64])
    assert static.layout.size == 1362 + 91_328


def test_the_policy_behind_learns_from_the_features_and_acts() -> None:
    alone, h = started()
    inner = make_policy(
        parse({"policy": {"kind": "hebbian", "hidden": [8]}}, "test").policy,
        Interface(648, 3, True),
    )
    inner.load(h[1362:].copy())
    inner.reset(3)
    for step in range(5):
        seen = picture(96, step).reshape(-1)
        expected = inner.act(alone.see(seen).copy())
        policy, _ = started()
        outputs = [policy.act(picture(96, s).reshape(-1)).copy() for s in range(step + 1)]
        np.testing.assert_array_equal(outputs[-1], expected)


@pytest.mark.parametrize("size", [100, 1362, 2000])
def test_parameters_loaded_in_pieces_are_those_loaded_at_once(size: int) -> None:
    whole, h = started(order="F")
    pieces, _ = started(order="F", seed=9)
    assert isinstance(pieces, LoadsPieces)
    for start in range(0, h.size, size):
        pieces.load_piece(start, h[start : start + size])
    pieces.reset(3)
    for step in range(3):
        seen = picture(96, step).reshape(-1)
        np.testing.assert_array_equal(pieces.act(seen), whole.act(seen))


def test_what_is_traced_is_the_network_behind_from_the_features_on() -> None:
    policy, _ = started()
    assert isinstance(policy, Traceable)
    seen = picture(96, 1).reshape(-1)
    outputs = policy.act(seen)
    activities = policy.activities()
    assert [layer.size for layer in activities] == [648, 8, 3]
    assert [layer.shape for layer in policy.weights()] == [(648, 8), (8, 3)]
    np.testing.assert_array_equal(activities[-1], outputs)
    np.testing.assert_array_equal(activities[0], policy.see(seen))


def test_what_was_seen_before_leaves_no_trace_in_the_features() -> None:
    policy, _ = started()
    first = policy.see(picture(96, 1).reshape(-1)).copy()
    policy.see(np.full(3 * 96**2, 255.0, np.float32))
    np.testing.assert_array_equal(policy.see(picture(96, 1).reshape(-1)), first)


@pytest.mark.parametrize("numbers", [4, 3 * 83**2, 96 * 96, 3 * 96 * 97])
def test_anything_but_a_square_rgb_picture_is_refused(numbers: int) -> None:
    config = parse({"policy": {"kind": "static", "convolutions": True}}, "test").policy
    with pytest.raises(UsageError, match=rf"{numbers} numbers, expected a square RGB picture"):
        make_policy(config, Interface(numbers, 3, True))


@pytest.mark.parametrize("size", [84, 85, 96, 167, 168, 252, 1000])
def test_areas_cover_a_side_evenly(size: int) -> None:
    first, share = areas(size, 84)
    matrix = np.zeros((84, size))
    for part in range(84):
        matrix[part, first[part] : first[part] + share.shape[1]] = share[part]
    np.testing.assert_allclose(matrix, oracle.shrinking(size, 84), atol=1e-6)
