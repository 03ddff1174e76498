"""Reversible blocks: what went in comes back, and gradients are those of the plain blocks without their memory."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.reversible import Way, held_by_autograd, plain
from esd.attention.reversible import Block, Function, Lifting, forward, inverse
from esd.attention.reversible_torch import ReversibleSequence
from esd.errors import RunError, UsageError

Float32s = npt.NDArray[np.float32]
Halves = tuple[torch.Tensor, torch.Tensor]
UNIT = 2.0**-24  # half of float32's last bit, at 1


def dense(seed: int, size: int, gain: float) -> tuple[Function, float]:
    """tanh(xW), and how much it can magnify the largest error."""
    weights = gain * np.random.default_rng(seed).normal(size=(size, size)) / np.sqrt(size)
    weights = weights.astype(np.float32)

    def function(x: Float32s) -> Float32s:
        result: Float32s = np.tanh(x @ weights)
        return result

    return function, float(np.abs(weights).sum(axis=0).max())


def dense_blocks(depth: int, size: int, gain: float = 1.0) -> list[Block]:
    return [(dense(2 * k, size, gain)[0], dense(2 * k + 1, size, gain)[0]) for k in range(depth)]


def halves(seed: int, *shape: int) -> Float32s:
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


@pytest.mark.parametrize("depth", [0, 1, 4, 16, 48])
def test_floats_come_back_within_the_stated_bound(depth: int) -> None:
    size = 32
    functions = [dense(k, size, 0.1) for k in range(2 * depth)]
    blocks = [(functions[2 * k][0], functions[2 * k + 1][0]) for k in range(depth)]
    x1, x2 = halves(1, 20, size)
    y1, y2 = forward(blocks, x1, x2)
    z1, z2 = inverse(blocks, y1, y2)
    bound = 0.0
    for _, magnification in reversed(functions):
        # what was there, the two roundings (states stay below 16), and that F itself is rounded
        assert max(np.abs(y1).max(), np.abs(y2).max()) < 16
        bound = bound * (1 + magnification) + 2 * 16 * UNIT + 4 * UNIT
    error = max(np.abs(z1 - x1).max(), np.abs(z2 - x2).max())
    assert error <= bound
    if depth:
        assert error > 0
        assert not np.array_equal(y1, x1)


def test_floats_come_back_to_1e_5_through_48_blocks_of_order_1() -> None:
    blocks = dense_blocks(48, 64, gain=0.1)
    x1, x2 = halves(0, 100, 64)
    z1, z2 = inverse(blocks, *forward(blocks, x1, x2))
    assert max(np.abs(z1 - x1).max(), np.abs(z2 - x2).max()) <= 1e-5


def wild(a: float, b: float) -> Function:
    """A function that magnifies differences beyond all measure."""

    def function(x: Float32s) -> Float32s:
        result: Float32s = (a * np.sin(1e6 * x + b)).astype(np.float32)
        return result

    return function


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    x=arrays.arrays(
        np.int64, st.tuples(st.just(2), st.integers(0, 5), st.integers(1, 4)),
        elements=st.integers(-(2**61) + 1, 2**61 - 1),
    ),
    coefficients=st.lists(st.floats(-(2.0**28), 2.0**28, width=32), max_size=12),
    bits=st.integers(0, 30),
)  # fmt: skip
def test_lifted_states_come_back_bit_for_bit(
    x: npt.NDArray[np.int64], coefficients: list[float], bits: int
) -> None:
    """Whatever the functions are, as long as nothing leaves the range."""
    blocks = [(wild(c, 1.0), wild(-c / 2, c)) for c in coefficients]
    lifting = Lifting(bits)
    y1, y2 = lifting.forward(blocks, *x)
    z1, z2 = lifting.inverse(blocks, y1, y2)
    assert np.array_equal(z1, x[0])
    assert np.array_equal(z2, x[1])


def test_lifting_computes_the_same_blocks_as_floats_do() -> None:
    blocks = dense_blocks(16, 32)
    x1, x2 = halves(2, 50, 32)
    lifting = Lifting()
    lifted = lifting.forward(blocks, lifting.encode(x1), lifting.encode(x2))
    for number, plain_float in zip(lifted, forward(blocks, x1, x2), strict=True):
        assert np.abs(lifting.decode(number) - plain_float).max() < 1e-3


def test_a_trajectory_is_rewound_and_a_single_changed_bit_is_seen() -> None:
    blocks = dense_blocks(1, 16) * 300
    x = halves(3, 16)
    lifting = Lifting()
    start = lifting.encode(x[0]), lifting.encode(x[1])
    y1, y2 = lifting.forward(blocks, *start)
    assert np.array_equal(lifting.inverse(blocks, y1, y2), start)
    y2[7] += 1
    assert not np.array_equal(lifting.inverse(blocks, y1, y2), start)


@settings(deadline=None, derandomize=True)
@given(
    x=arrays.arrays(np.float32, 5, elements=st.floats(-1e9, 1e9, width=32)),
    bits=st.sampled_from([0, 8, 24, 30]),
)
def test_encoding_is_off_by_half_a_unit_at_most(x: Float32s, bits: int) -> None:
    lifting = Lifting(bits)
    found = lifting.encode(x)
    exact = x.astype(np.float64) * 2.0**bits
    assert np.abs(found - exact).max() <= 0.5
    fine = np.abs(exact) >= 2.0**23  # float32 has no finer bits there
    assert np.array_equal(lifting.decode(found)[fine], x[fine])


def constant(value: float) -> Function:
    return lambda x: np.full_like(x, value)


@pytest.mark.parametrize(
    ("start", "moved", "message"),
    [
        (0.0, np.nan, "what F of block 1 gives reaches nan: expected finite values below 2.75e"),
        (0.0, np.inf, "what F of block 1 gives reaches inf"),
        (0.0, 2.75e11, r"what F of block 1 gives reaches 2.75e\+11"),
        (2.5e11, 2.5e11, r"the state reaches 5e\+11 at F of block 1"),
        (-2.5e11, -2.5e11, r"the state reaches -5e\+11 at F of block 1"),
    ],
)
def test_what_leaves_the_range_is_refused_both_ways(
    start: float, moved: float, message: str
) -> None:
    lifting = Lifting()
    x = lifting.encode(np.full(3, start, np.float32))
    harmless = constant(0.0)
    blocks = [(harmless, harmless), (constant(moved), harmless)]
    with pytest.raises(UsageError, match=message):
        lifting.forward(blocks, x, x)
    backwards = [(harmless, harmless), (constant(-moved), harmless)]
    with pytest.raises(UsageError, match=message.replace("gives reaches ", "gives reaches -?")):
        lifting.inverse(backwards, x, x)


@pytest.mark.parametrize("number", [2**62, -(2**62), 2**63 - 1, -(2**63)])
def test_a_state_beyond_the_range_is_refused(number: int) -> None:
    x = np.array([0, number])
    for walk in (Lifting().forward, Lifting().inverse):
        with pytest.raises(UsageError, match=r"must stay below 2\.75e"):
            walk([], x, x)


def test_the_last_number_in_range_is_held() -> None:
    x = np.array([2**62 - 1, -(2**62) + 1])
    assert np.array_equal(Lifting().forward([], x, x), (x, x))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 2.0**38])
def test_a_value_that_fixed_point_can_not_hold_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="a value reaches"):
        Lifting().encode(np.array([0.0, value], np.float32))


@pytest.mark.parametrize("bits", [-1, 62])
def test_a_fixed_point_that_can_not_be_is_refused(bits: int) -> None:
    with pytest.raises(UsageError, match=f"fraction_bits = {bits}"):
        Lifting(bits)


def test_halves_and_functions_that_do_not_fit_are_refused() -> None:
    x = np.zeros((3, 4), np.float32)
    doubled = (lambda x: x.astype(np.float64), constant(0.0))
    narrow = (constant(0.0), lambda x: x[:1])
    for walk in (forward, inverse):
        with pytest.raises(UsageError, match=r"float32 \(2, 4\): expected float32"):
            walk([], x, x[:2])
        with pytest.raises(UsageError, match="halves are float64"):
            walk([], x.astype(np.float64), x)
        with pytest.raises(UsageError, match=r"F of block 0 gives float64 \(3, 4\)"):
            walk([doubled], x, x)
        with pytest.raises(UsageError, match=r"G of block 0 gives float32 \(1, 4\)"):
            walk([narrow], x, x)
    with pytest.raises(UsageError, match="expected int64"):
        Lifting().forward([], x, x)  # type: ignore[arg-type]


# ---- torch


def layer(size: int, dropout: float = 0.0) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.LayerNorm(size),
        torch.nn.Linear(size, 2 * size),
        torch.nn.GELU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(2 * size, size),
    )


def sequence_of(depth: int, size: int = 16, dropout: float = 0.0) -> ReversibleSequence:
    torch.manual_seed(depth)
    return ReversibleSequence((layer(size, dropout), layer(size, dropout)) for _ in range(depth))


def inputs(size: int = 16, dtype: torch.dtype = torch.float32) -> Halves:
    generator = torch.Generator().manual_seed(0)
    x1, x2 = (torch.randn(5, size, generator=generator, dtype=dtype) for _ in range(2))
    return x1.requires_grad_(), x2.requires_grad_()


def both(sequence: ReversibleSequence) -> tuple[Way, Way]:
    return sequence, functools.partial(plain, sequence)


def loss_of(y: Halves) -> torch.Tensor:
    return (y[0].sin() + y[0] * y[1]).sum()


def gradients(
    y: Halves, sequence: ReversibleSequence, x: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss_of(y), [*x, *sequence.parameters()]))


def assert_alike(
    found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], to: float = 1e-5
) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= to * max(1.0, b.detach().abs().max().item())


@pytest.mark.parametrize("depth", [0, 1, 2, 8, 32])
def test_gradients_are_those_of_the_plain_blocks(depth: int) -> None:
    sequence, x = sequence_of(depth), inputs()
    reversible, expected = sequence(*x), plain(sequence, *x)
    assert torch.equal(reversible[0], expected[0])
    assert torch.equal(reversible[1], expected[1])
    assert_alike(gradients(reversible, sequence, x), gradients(expected, sequence, x))


def test_gradients_in_doubles_are_exact_to_their_rounding() -> None:
    sequence, x = sequence_of(8).double(), inputs(dtype=torch.float64)
    expected = gradients(plain(sequence, *x), sequence, x)
    assert_alike(gradients(sequence(*x), sequence, x), expected, 1e-13)


def test_gradients_are_those_of_finite_differences() -> None:
    sequence, x = sequence_of(2, size=3).double(), inputs(3, torch.float64)
    assert torch.autograd.gradcheck(sequence, x)


def test_what_autograd_holds_does_not_grow_with_depth() -> None:
    """And by torch's own count of what is allocated, not only by what it was told to save."""
    x = inputs(64)
    held = {}
    for depth in (2, 8, 32):
        sequence = sequence_of(depth, 64)
        held[depth] = [held_by_autograd(way, sequence, *x) for way in both(sequence)]
    flat, growing = zip(*held.values(), strict=True)
    assert flat == ((2 * 5 * 64 * 4,) * 3)
    assert growing[2] > 3.9 * growing[1] > 12 * growing[0]


def allocated(way: Way, x: Halves) -> tuple[Halves, int]:
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        y = way(*x)
    return y, sum(event.self_cpu_memory_usage for event in profile.key_averages())


@pytest.mark.parametrize("depth", [2, 32])
def test_nothing_but_the_last_state_stays_allocated(depth: int) -> None:
    x = inputs(64)
    sequence = sequence_of(depth, 64)
    _, bytes_held = allocated(sequence, x)
    assert bytes_held <= 2 * 5 * 64 * 4 + 1024
    _, bytes_plain = allocated(both(sequence)[1], x)
    assert bytes_plain > depth * 2 * 5 * 64 * 4


@pytest.mark.parametrize("depth", [1, 6])
def test_dropout_falls_as_on_the_plain_blocks_and_disturbs_nobody(depth: int) -> None:
    sequence, x = sequence_of(depth, dropout=0.4), inputs()
    found = []
    for way in both(sequence):
        torch.manual_seed(7)
        y = way(*x)
        torch.rand(3)  # somebody draws between forward and backward
        found.append([*y, *gradients(y, sequence, x), torch.rand(1)])
    assert_alike(*found)
    with pytest.raises(UsageError, match="draws random numbers"):
        sequence.inverse(*x)
    sequence.eval()
    assert_alike(sequence.inverse(*sequence(*x)), x)


def test_a_function_in_several_blocks_gets_the_sum_of_its_gradients_and_its_hooks_see_that() -> (
    None
):
    torch.manual_seed(0)
    shared, own = layer(16), layer(16)
    sequence, x = ReversibleSequence([(shared, own), (shared, shared), (own, shared)]), inputs()
    weights = list(shared.parameters())
    calls: list[torch.Tensor] = []

    def clipped(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(gradient)
        return gradient.clamp(-1.0, 1.0)

    weights[2].register_hook(clipped)
    results = []
    for way in both(sequence):
        for weight in sequence.parameters():
            weight.grad = None
        loss_of(way(*x)).backward()
        results.append([weight.grad for weight in sequence.parameters()])
    assert_alike(*results)  # type: ignore[arg-type]
    assert len(calls) == 2  # one for each way
    assert_alike(calls[:1], calls[1:])


def test_a_parameter_that_is_also_used_elsewhere_gets_both_gradients() -> None:
    sequence, x = sequence_of(2), inputs()
    weight = next(sequence.parameters())
    found = []
    for way in both(sequence):
        loss = loss_of(way(*x)) + (3 * weight).sum()
        found.append(torch.autograd.grad(loss, [weight]))
    assert_alike(*found)


def test_tied_and_parametrized_weights_are_trained_as_on_the_plain_blocks() -> None:
    torch.manual_seed(0)
    tied = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16))
    tied[2].weight = tied[0].weight
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(16, 16))
    sequence, x = ReversibleSequence([(tied, normed), (normed, tied)]), inputs()
    assert_alike(*(gradients(way(*x), sequence, x) for way in both(sequence)))


def test_frozen_parameters_and_inputs_get_no_gradient_and_others_theirs() -> None:
    sequence, (x1, x2) = sequence_of(3), inputs()
    for parameter in sequence.functions[1].parameters():
        parameter.requires_grad_(False)
    trained = [p for p in sequence.parameters() if p.requires_grad]
    x1 = x1.detach()
    found = [torch.autograd.grad(loss_of(way(x1, x2)), [x2, *trained]) for way in both(sequence)]
    assert_alike(*found)
    y1, _ = sequence(x1, x1)
    y1.sum().backward()
    assert sequence.functions[1][1].weight.grad is None  # type: ignore[index, union-attr]
    assert trained[0].grad is not None


class Constant(torch.nn.Module):
    """Has no regard for its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x.detach())


class Offset(torch.nn.Module):
    """A parameter, and no regard for its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight.expand_as(x)


def test_a_function_may_ignore_its_input() -> None:
    sequence, x = ReversibleSequence([(Constant(), layer(16)), (Offset(), Constant())]), inputs()
    expected = gradients(plain(sequence, *x), sequence, x)
    assert_alike(gradients(sequence(*x), sequence, x), expected)


def test_without_gradients_nothing_is_kept_and_the_result_is_the_same() -> None:
    sequence, x = sequence_of(3), inputs()
    with torch.no_grad():
        y = sequence(*x)
    assert not y[0].requires_grad
    assert torch.equal(y[0], plain(sequence, *x)[0])
    assert sequence(*x)[0].requires_grad


def test_the_inverse_gives_back_what_went_in() -> None:
    sequence, x = sequence_of(16), inputs()
    z = sequence.inverse(*sequence(*x))
    assert_alike(z, x)
    assert not z[0].requires_grad


def test_one_tensor_may_be_both_halves_and_a_graph_may_be_kept() -> None:
    sequence, (x, _) = sequence_of(4), inputs()
    y = sequence(x, x)
    twice = [torch.autograd.grad(loss_of(y), [x], retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*twice)
    assert_alike(twice[:1], torch.autograd.grad(loss_of(plain(sequence, x, x)), [x]))


def test_autocast_of_the_forward_pass_holds_in_the_backward_pass() -> None:
    sequence, x = sequence_of(4), inputs()
    found = []
    for way in both(sequence):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = way(*x)
        found.append([*y, *gradients(y, sequence, x)])
    assert_alike(*found, to=0.02)
    assert torch.equal(found[0][0], found[1][0])


def test_a_trained_step_lowers_the_loss_as_the_plain_blocks_do() -> None:
    losses = []
    for reversible in (True, False):
        sequence, x = sequence_of(4), inputs()
        optimizer = torch.optim.SGD(sequence.parameters(), 1e-3)
        row = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = loss_of(sequence(*x) if reversible else plain(sequence, *x))
            loss.backward()
            optimizer.step()
            row.append(float(loss.detach()))
        losses.append(row)
    assert np.allclose(*losses, rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_weights_are_saved_loaded_and_copied_as_those_of_any_module() -> None:
    sequence, x = sequence_of(2), inputs()
    other = copy.deepcopy(sequence)
    other.load_state_dict(sequence_of(3).state_dict(), strict=False)
    assert not torch.equal(other(*x)[0], sequence(*x)[0])
    other.load_state_dict(sequence.state_dict())
    assert torch.equal(other(*x)[0], sequence(*x)[0])


def test_a_function_that_changes_its_buffers_is_refused() -> None:
    norm = torch.nn.BatchNorm1d(16)
    sequence, x = ReversibleSequence([(norm, layer(16))]), inputs()
    with pytest.raises(UsageError, match="changes its buffers"):
        sequence(*x)
    norm.eval()
    expected = gradients(plain(sequence, *x), sequence, x)
    assert_alike(gradients(sequence(*x), sequence, x), expected)


def test_what_changes_between_forward_and_backward_is_refused() -> None:
    sequence, x = sequence_of(2, dropout=0.5), inputs()
    loss = loss_of(sequence(*x))
    sequence.eval()
    with pytest.raises(RunError, match="changed, between forward and backward"):
        loss.backward()
    loss = loss_of(sequence(*x))
    with torch.no_grad():
        next(sequence.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    weights = {name: 2 * p for name, p in sequence.named_parameters()}
    loss = loss_of(torch.func.functional_call(sequence, weights, x))
    with pytest.raises(RunError, match="parameters were exchanged"):
        loss.backward()


def test_gradients_of_gradients_are_refused() -> None:
    sequence, x = sequence_of(1), inputs()
    (first,) = torch.autograd.grad(loss_of(sequence(*x)), x[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_tensors_that_do_not_fit_are_refused() -> None:
    sequence, (x1, x2) = sequence_of(1), inputs()
    for walk in (sequence, sequence.inverse):
        with pytest.raises(UsageError, match=r"torch.float32 \(4, 16\): expected"):
            walk(x1, x2[:4])
        with pytest.raises(UsageError, match=r"torch.float64 \(5, 16\): expected"):
            walk(x1, x2.double())
        with pytest.raises(UsageError, match="expected float32 or float64"):
            walk(x1.bfloat16(), x2.bfloat16())
        with pytest.raises(UsageError, match="on meta: expected the CPU"):
            walk(x1.to("meta"), x2.to("meta"))
    narrow = ReversibleSequence([(layer(16), torch.nn.Linear(16, 1))])
    with pytest.raises(UsageError, match=r"G of block 0 gives \(5, 1\): expected \(5, 16\)"):
        narrow(x1, x2)
