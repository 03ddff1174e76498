"""Flattening in order "C" and "F" against numpy's own reshape and against the identities of linear algebra."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evolution.layout import Layout, Order

Float32s = npt.NDArray[np.float32]

SHAPES = {"w": (3, 4), "b": (4,), "scalar": (), "deep": (2, 3, 2), "none": (0, 5)}
SIZE = 12 + 4 + 1 + 12

orders = pytest.mark.parametrize("order", ["C", "F"])
shapes = st.dictionaries(
    st.text("abcdef.", min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    max_size=6,
)


def counting(size: int) -> Float32s:
    return np.arange(size, dtype=np.float32)


def test_size_is_the_number_of_coordinates() -> None:
    assert Layout(SHAPES).size == SIZE
    assert Layout({}).size == 0


@orders
def test_every_array_is_numpys_reshape_of_its_part_of_h(order: Order) -> None:
    h = counting(SIZE)
    arrays = Layout(SHAPES, order).unpack(h)
    assert list(arrays) == list(SHAPES)
    start = 0
    for name, shape in SHAPES.items():
        part = h[start : start + math.prod(shape)]
        assert np.array_equal(arrays[name], part.reshape(shape, order=order))
        start += part.size
    assert start == h.size


def test_example_of_a_3_by_4_matrix_in_order_f() -> None:
    """The example z = x.reshape(3, 4, order="F"), column after column as in Octave."""
    x = counting(12)
    z = Layout({"z": (3, 4)}, "F").unpack(x)["z"]
    assert np.array_equal(z, x.reshape(3, 4, order="F"))
    assert z.tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_example_of_a_3_by_4_matrix_in_order_c() -> None:
    z = Layout({"z": (3, 4)}).unpack(counting(12))["z"]
    assert z.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_packing_in_order_f_is_vec_of_the_textbooks() -> None:
    """vec(AXB) = (Bᵀ ⊗ A) vec(X); integers, so exactly. In order "C" it is (A ⊗ Bᵀ) instead."""
    rng = np.random.default_rng(0)
    a, x, b = (rng.integers(-5, 6, shape).astype(np.float32) for shape in [(2, 3), (3, 4), (4, 5)])
    product, inner = {"m": a @ x @ b}, {"m": x}
    vec_f = Layout({"m": (2, 5)}, "F").pack(product)
    vec_c = Layout({"m": (2, 5)}, "C").pack(product)
    assert np.array_equal(vec_f, np.kron(b.T, a) @ Layout({"m": (3, 4)}, "F").pack(inner))
    assert np.array_equal(vec_c, np.kron(a, b.T) @ Layout({"m": (3, 4)}, "C").pack(inner))
    assert not np.array_equal(vec_f, vec_c)


def test_orders_are_transposes_of_each_other() -> None:
    h = counting(12)
    f = Layout({"m": (3, 4)}, "F").unpack(h)["m"]
    c = Layout({"m": (4, 3)}, "C").unpack(h)["m"]
    assert np.array_equal(f, c.T)


@orders
@settings(deadline=None, derandomize=True)
@given(shapes=shapes)
def test_pack_and_unpack_are_inverse(order: Order, shapes: dict[str, tuple[int, ...]]) -> None:
    layout = Layout(shapes, order)
    h = counting(layout.size)
    arrays = layout.unpack(h)
    assert {name: array.shape for name, array in arrays.items()} == shapes
    packed = layout.pack(arrays)
    assert packed.dtype == np.float32
    assert np.array_equal(packed, h)
    again = layout.unpack(packed)
    assert all(np.array_equal(again[name], arrays[name]) for name in shapes)


@orders
def test_unpacked_arrays_are_views(order: Order) -> None:
    """Writing to them writes to h, and the other way round."""
    h = counting(SIZE)
    arrays = Layout(SHAPES, order).unpack(h)
    assert all(np.shares_memory(array, h) for array in arrays.values() if array.size)
    arrays["w"][2, 1] = -1.0
    assert h[2 * 4 + 1 if order == "C" else 2 + 1 * 3] == -1.0
    h[:] = 7.0
    assert all((array == 7.0).all() for array in arrays.values())


@orders
def test_packing_copies(order: Order) -> None:
    arrays = {"w": np.ones((3, 4), np.float32)}
    h = Layout({"w": (3, 4)}, order).pack(arrays)
    arrays["w"][:] = 2.0
    assert (h == 1.0).all()


@orders
def test_packing_takes_lists_other_precisions_and_either_memory_order(order: Order) -> None:
    layout = Layout({"w": (2, 3)}, order)
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    for same in (expected.tolist(), expected.astype(np.float64), np.asfortranarray(expected)):
        assert np.array_equal(layout.unpack(layout.pack({"w": same}))["w"], expected)


def test_packing_follows_the_layouts_order_of_names_not_the_arguments() -> None:
    layout = Layout({"a": (2,), "b": (3,)})
    arrays = {"b": np.array([3.0, 4.0, 5.0]), "a": np.array([1.0, 2.0])}
    assert layout.pack(arrays).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("shape", [(11,), (13,), (3, 4), (12, 1), (0,), ()])
def test_unpack_refuses_a_vector_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(12,\)"):
        Layout({"w": (3, 4)}).unpack(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "arrays", [{}, {"w": np.zeros((3, 4)), "x": np.zeros(1)}, {"W": np.zeros((3, 4))}]
)
def test_pack_refuses_missing_and_unknown_names(arrays: dict[str, npt.ArrayLike]) -> None:
    with pytest.raises(ValueError, match=r"expected \['w'\]"):
        Layout({"w": (3, 4)}).pack(arrays)


@pytest.mark.parametrize("shape", [(4, 3), (12,), (1, 4), (3, 1), (4,), ()])
def test_pack_refuses_another_shape_even_if_it_would_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"'w' has shape .* expected \(3, 4\)"):
        Layout({"w": (3, 4)}).pack({"w": np.zeros(shape)})


@pytest.mark.parametrize("order", ["A", "K", "c", "", None])
def test_another_order_is_refused(order: str | None) -> None:
    with pytest.raises(ValueError, match="expected 'C' or 'F'"):
        Layout({"w": (3, 4)}, order)  # type: ignore[arg-type]
