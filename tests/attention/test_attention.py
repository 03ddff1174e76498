"""Stream and batch against the dense oracle and each other: masks, caps, capacity, and nothing from the future."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import esd.attention
from esd.attention.hashing import Hash, angular, one_bucket, signs
from esd.attention.sequence import attend, shared_keys
from esd.attention.stream import Limits, Stream, scale_of
from esd.attention.telemetry import measure
from esd.errors import UsageError
from tests.helpers.oracles import lsh as oracle

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A sequence and how it is attended to."""

    hashed: Hash
    queries: Float32s
    keys: Float32s | None
    values: Float32s
    limits: Limits
    write: npt.NDArray[np.bool_]

    def stream(self) -> Stream:
        return Stream(self.hashed, self.values.shape[1], self.limits, self.keys is None)

    def mask(self) -> npt.NDArray[np.bool_]:
        """What the oracle lets each query see; unwritten keys are left out before caps are counted."""
        query_buckets = self.hashed(self.queries)
        key_buckets = query_buckets if self.keys is None else self.hashed(self.keys)
        limits = self.limits
        if self.write.all():
            cap, capacity = limits.cap, limits.capacity
            return oracle.mask(query_buckets, key_buckets, cap, capacity, limits.inclusive)
        seen = np.zeros((len(self.queries), len(self.queries)), bool)
        for t in range(len(seen)):  # the query behind what was written before it, as the last token
            known = np.flatnonzero(self.write[: t + 1 if limits.inclusive else t])
            extended = np.append(known, t)
            row = oracle.mask(
                query_buckets[:, extended], key_buckets[:, extended], limits.cap, limits.capacity
            )
            seen[t, known] = row[-1, :-1]
        return seen

    def expected(self) -> npt.NDArray[np.float64]:
        keys = oracle.normalized(self.queries) if self.keys is None else self.keys
        scale = float(scale_of(self.hashed.size, self.keys is None))
        return oracle.attend(self.queries, keys, self.values, self.mask(), scale)


def clustered(seed: int, n: int, size: int, clusters: int, spread: float) -> Float32s:
    """Vectors around few centers: buckets are crowded, and those of all rounds alike."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, size))
    return (centers[rng.integers(clusters, size=n)] + spread * rng.normal(size=(n, size))).astype(
        np.float32
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.integers(0, 90), label="tokens")
    size = draw(st.sampled_from([1, 5, 16, 64, 70]), label="size")
    value_size = draw(st.sampled_from([1, 16, 33, 64, 80]), label="value size")
    seed = draw(st.integers(0, 1000), label="seed")
    factors = draw(st.sampled_from([(2,), (4,), (16,), (4, 4), (2, 2, 2)]), label="factors")
    rounds = draw(st.integers(1, 4), label="rounds")
    clusters = draw(st.sampled_from([1, 3, 50]), label="clusters")
    spread = draw(st.sampled_from([0.0, 0.3, 1.0]), label="spread")
    shared = draw(st.booleans(), label="shared")
    all_written = draw(st.booleans(), label="all written")
    return Case(
        angular(seed, size, rounds, factors),
        clustered(seed, n, size, clusters, spread),
        None if shared else clustered(seed, n, size, clusters, spread + 0.1),
        np.random.default_rng(seed).normal(size=(n, value_size)).astype(np.float32),
        Limits(
            draw(st.sampled_from([1, 2, 7, 64, 1000]), label="cap"),
            draw(st.sampled_from([1, 3, 20, 1000]), label="capacity"),
            draw(st.booleans(), label="inclusive"),
        ),
        np.ones(n, bool) if all_written else np.random.default_rng(seed).random(n) < 0.6,
    )


@settings(deadline=None, derandomize=True, max_examples=150)
@given(case=cases())
def test_stream_is_the_softmax_over_what_shares_a_bucket(case: Case) -> None:
    out, counts = case.stream().steps(case.queries, case.values, case.keys, case.write)
    assert np.abs(out - case.expected()).max(initial=0.0) <= 1e-5
    assert np.array_equal(counts, case.mask().sum(axis=1))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(case=cases())
def test_batch_is_the_softmax_over_what_shares_a_bucket(case: Case) -> None:
    found = attend(case.hashed, case.queries, case.values, case.keys, case.limits, case.write)
    assert np.abs(found.out - case.expected()).max(initial=0.0) <= 1e-5
    assert np.array_equal(found.candidates, case.mask().sum(axis=1))


@pytest.mark.parametrize("shared", [True, False])
def test_a_long_sequence_in_crowded_buckets_matches_the_oracle(shared: bool) -> None:
    n = 1500
    write = np.ones(n, bool)
    queries, keys = (clustered(seed, n, 64, 10, 0.5) for seed in (0, 0))
    values = np.random.default_rng(1).normal(size=(n, 64)).astype(np.float32)
    case = Case(
        angular(5, 64, 4, 256), queries, None if shared else keys, values, Limits(32, 900), write
    )
    found = attend(case.hashed, queries, values, case.keys, case.limits)
    out, counts = case.stream().steps(queries, values, case.keys)
    assert np.array_equal(counts, case.mask().sum(axis=1))
    assert np.array_equal(found.candidates, counts)
    assert counts.max() > case.limits.cap  # which binds, in rounds that differ
    expected = case.expected()
    assert np.abs(out - expected).max() <= 1e-5
    assert np.abs(found.out - expected).max() <= 1e-5


@settings(deadline=None, derandomize=True, max_examples=100)
@given(case=cases())
def test_single_steps_many_steps_and_batch_agree(case: Case) -> None:
    out, counts = case.stream().steps(case.queries, case.values, case.keys, case.write)
    found = attend(case.hashed, case.queries, case.values, case.keys, case.limits, case.write)
    assert np.abs(out - found.out).max(initial=0.0) <= 1e-5
    assert np.array_equal(counts, found.candidates)
    stream = case.stream()
    for t, query in enumerate(case.queries):
        key = None if case.keys is None else case.keys[t]
        single = stream.step(query, case.values[t], key, bool(case.write[t]))
        assert np.array_equal(single, out[t])
        assert stream.candidates == counts[t]
        assert stream.log_mass == pytest.approx(found.log_mass[t], abs=1e-4)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(case=cases(), cut=st.floats(0.0, 1.0))
def test_the_future_changes_no_bit_of_the_past(case: Case, cut: float) -> None:
    """Crowded and rearranged buckets move every place in the sorted order, and the past must not notice."""
    n = len(case.queries)
    first = int(cut * n)
    before = attend(case.hashed, case.queries, case.values, case.keys, case.limits, case.write)
    rng = np.random.default_rng(0)

    def changed(x: Float32s) -> Float32s:
        """Another future, longer than the one before and crowded into few buckets."""
        future = np.repeat(rng.normal(size=(2, x.shape[1])), n, axis=0).astype(np.float32)
        return np.concatenate([x[:first], rng.permutation(future)])

    write = np.concatenate([case.write[:first], np.ones(2 * n, bool)])
    keys = None if case.keys is None else changed(case.keys)
    after = attend(
        case.hashed, changed(case.queries), changed(case.values), keys, case.limits, write
    )
    for name in ("out", "log_mass", "candidates"):
        assert np.array_equal(getattr(before, name)[:first], getattr(after, name)[:first])


def test_an_empty_history_gives_zeros() -> None:
    rng = np.random.default_rng(0)
    hashed = angular(0, 8, 2, 4)
    query, value = rng.normal(size=(2, 8)).astype(np.float32)
    for shared in (True, False):
        stream = Stream(hashed, 8, shared=shared)
        assert np.array_equal(stream.step(query, value, None if shared else query), np.zeros(8))
        assert stream.candidates == 0
        assert stream.log_mass == -np.inf
    found = attend(hashed, query[None], value[None])
    assert np.array_equal(found.out, np.zeros((1, 8)))
    assert found.log_mass[0] == -np.inf
    assert attend(hashed, query[None][:0], value[None][:0]).out.shape == (0, 8)


def test_zeros_follow_a_step_that_found_something() -> None:
    """Where nothing is found the output of the step before must not show through."""
    hashed = signs(0, 2, 1, 4)
    stream = Stream(hashed, 3)
    key = np.array([1.0, 0.5], np.float32)
    value = np.array([1.0, 2.0, 3.0], np.float32)
    stream.step(key, value, key)
    assert np.allclose(stream.step(key, value, key), value)
    assert np.array_equal(stream.step(-key, value, key), np.zeros(3))


def test_one_token_finds_itself_if_it_may() -> None:
    query = np.array([[1.0, -2.0, 0.5]], np.float32)
    value = np.array([[4.0, 5.0]], np.float32)
    hashed = angular(0, 3, 3, 8)
    for inclusive, expected in ((False, np.zeros((1, 2))), (True, value)):
        limits = Limits(inclusive=inclusive)
        assert np.array_equal(attend(hashed, query, value, None, limits).out, expected)
        assert np.array_equal(Stream(hashed, 2, limits, True).steps(query, value)[0], expected)


@pytest.mark.parametrize("rounds", [1, 4])
def test_identical_keys_count_once_and_the_newest_win(rounds: int) -> None:
    """All share a bucket in all rounds: the mean of the last ``cap`` values, whatever the number of rounds."""
    n, cap = 200, 7
    queries = np.ones((n, 16), np.float32)
    values = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    hashed = angular(3, 16, rounds, 16)
    out, counts = Stream(hashed, 5, Limits(cap), shared=True).steps(queries, values)
    found = attend(hashed, queries, values, None, Limits(cap))
    for t in range(1, n):
        mean = values[max(t - cap, 0) : t].mean(axis=0)
        assert counts[t] == found.candidates[t] == min(t, cap)
        assert np.allclose(out[t], mean, atol=1e-6)
        assert np.allclose(found.out[t], mean, atol=1e-6)


def test_what_is_beyond_the_capacity_is_forgotten_exactly() -> None:
    """A stream that has wrapped around many times equals one that has only seen the last keys."""
    rng = np.random.default_rng(0)
    queries, keys, values = rng.normal(size=(3, 1000, 12)).astype(np.float32)
    hashed = angular(0, 12, 3, 4)
    limits = Limits(cap=1000, capacity=37)
    old = Stream(hashed, 12, limits)
    old.steps(queries[:-1], values[:-1], keys[:-1])
    young = Stream(hashed, 12, limits)
    young.steps(queries[-38:-1], values[-38:-1], keys[-38:-1])
    final = queries[-1], values[-1], keys[-1]
    assert np.array_equal(old.step(*final), young.step(*final))
    assert old.candidates <= 37


def test_an_episode_leaves_nothing_to_the_next() -> None:
    """Law 1: the same bits after a reset, also behind an episode of NaN and infinities."""
    rng = np.random.default_rng(0)
    queries, keys, values = rng.normal(size=(3, 150, 20)).astype(np.float32)
    hashed = angular(0, 20, 2, 8)
    stream = Stream(hashed, 20, Limits(cap=9, capacity=50))
    fresh, counts = stream.steps(queries, values, keys)
    for bad in (np.nan, np.inf):
        stream.reset()
        broken = np.full_like(queries, bad)
        stream.steps(broken, broken, broken)
        stream.reset()
        again, counts_again = stream.steps(queries, values, keys)
        assert np.array_equal(again, fresh)
        assert np.array_equal(counts_again, counts)
    assert stream.occupancy().sum() == 2 * 150


def test_a_query_that_is_not_written_is_found_by_none() -> None:
    rng = np.random.default_rng(0)
    queries, keys, values = rng.normal(size=(3, 50, 6)).astype(np.float32)
    stream = Stream(angular(0, 6, 1, 2), 6)
    _, counts = stream.steps(queries, values, keys, np.zeros(50, bool))
    assert not counts.any()
    assert not stream.occupancy().any()


@pytest.mark.parametrize("shared", [True, False])
def test_one_bucket_without_a_cap_is_full_attention(shared: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    queries, keys, values = rng.normal(size=(3, 130, 24)).astype(np.float32)
    if shared:
        keys = oracle.normalized(queries)
    found = attend(
        one_bucket(24), queries, values, None if shared else keys, Limits(130, 130, inclusive=True)
    )
    tensors = (torch.from_numpy(x)[None] for x in (queries, keys, values))
    exact = torch.nn.functional.scaled_dot_product_attention(
        *tensors, is_causal=True, scale=1.0 if shared else 24**-0.5
    )
    assert np.abs(found.out - exact[0].numpy()).max() <= 1e-5


def test_telemetry_tells_what_is_recalled() -> None:
    rng = np.random.default_rng(0)
    queries, keys = 3 * rng.normal(size=(2, 120, 10)).astype(np.float32)
    write = rng.random(120) < 0.7
    hashed = angular(0, 10, 2, 8)
    case = Case(hashed, queries, keys, np.zeros((120, 1), np.float32), Limits(5), write)
    told = measure(hashed, queries, keys, case.limits, write)
    seen, past = case.mask(), np.tri(120, k=-1).astype(bool) & write
    expected = oracle.recalled_mass(queries, keys, seen, past, 10**-0.5)
    assert np.array_equal(told.candidates, seen.sum(axis=1))
    assert np.allclose(told.recalled, expected, atol=1e-5, equal_nan=True)
    assert np.isnan(told.recalled[0])
    assert 0.05 < np.nanmean(told.recalled) < 0.95
    assert told.occupancy.shape == (2, 8)
    assert np.array_equal(told.occupancy.sum(axis=1), [write.sum()] * 2)


def test_more_rounds_recall_more() -> None:
    x = clustered(0, 1000, 64, 300, 0.1)
    means = [
        np.nanmean(measure(angular(0, 64, rounds, 64), 4 * x).recalled) for rounds in (1, 2, 4, 8)
    ]
    assert np.all(np.diff(means) > 0)


@pytest.mark.parametrize(
    ("queries", "values", "keys", "message"),
    [
        ((5, 7), (5, 3), None, r"expected \[n, 8\]"),
        ((5, 8), (4, 3), None, r"with values of shape \(4, 3\)"),
        ((5, 8), (5, 3), (4, 8), r"queries and keys of shape \(5, 8\), \(4, 8\)"),
        ((5, 8), (5,), None, r"with values of shape \(5,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    queries: tuple[int, ...],
    values: tuple[int, ...],
    keys: tuple[int, ...] | None,
    message: str,
) -> None:
    hashed = angular(0, 8, 1, 4)
    arrays = [None if s is None else np.zeros(s, np.float32) for s in (queries, values, keys)]
    with pytest.raises(UsageError, match=message):
        attend(hashed, *arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        Stream(hashed, 3, shared=keys is None).steps(*arrays)  # type: ignore[arg-type]


def test_a_step_with_a_wrong_size_or_a_key_too_many_is_refused() -> None:
    """The kernel looks at no bounds, so somebody has to."""
    stream = Stream(angular(0, 8, 1, 4), 3)
    good, value = np.zeros(8, np.float32), np.zeros(3, np.float32)
    for arguments in ((good[:7], value, good), (good, value[:2], good), (good, value, good[:7])):
        with pytest.raises(UsageError, match="expected a size of 8"):
            stream.step(*arguments)
    with pytest.raises(UsageError, match="got no key"):
        stream.step(good, value)
    with pytest.raises(UsageError, match="keys are shared"):
        Stream(angular(0, 8, 1, 4), 3, shared=True).step(good, value, good)


@pytest.mark.parametrize("name", ["cap", "capacity"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} = 0"):
        Limits(**{name: 0})


def test_a_cap_beyond_the_capacity_is_the_capacity() -> None:
    """And takes no more memory than that."""
    queries, keys, values = np.random.default_rng(0).normal(size=(3, 90, 6)).astype(np.float32)
    hashed = angular(0, 6, 2, 2)
    found = []
    for cap in (20, 10**12):
        stream = Stream(hashed, 6, Limits(cap, 20))
        assert sum(array.nbytes for array in (*stream.memory, *stream.work)) < 10_000
        out, counts = stream.steps(queries, values, keys)
        assert counts.max() > 10
        found.append(out)
    assert np.array_equal(*found)


@pytest.mark.parametrize("capacity", [2**44, 2**60])
def test_a_memory_that_there_is_no_room_for_is_refused(capacity: int) -> None:
    with pytest.raises(UsageError, match=f"memory of {capacity} keys of size 8.* GB"):
        Stream(angular(0, 8, 1, 4), 8, Limits(capacity=capacity))


def test_the_mass_is_that_of_the_last_query() -> None:
    """Nothing before the first and after a reset; a NaN shows, as in whole sequences."""
    queries = np.ones((3, 4), np.float32)
    stream = Stream(angular(0, 4, 1, 4), 4, shared=True)
    for _ in range(2):
        assert stream.log_mass == -np.inf
        stream.steps(queries, queries)
        assert stream.log_mass == pytest.approx(2.0 + np.log(2.0))
        stream.reset()
    keys = queries.copy()
    keys[0] = np.nan
    stream = Stream(one_bucket(4), 4)
    stream.steps(queries, queries, keys)
    assert np.isnan(stream.log_mass)
    assert np.isnan(attend(one_bucket(4), queries, queries, keys).log_mass[-1])


def test_shared_keys_of_what_has_no_length_are_zeros() -> None:
    """A step that saw a NaN or an infinity is no key that spoils all later ones."""
    lengths = np.array([[0.0], [1e-30], [1e30], [np.inf], [np.nan], [2.0]], np.float32)
    queries = lengths * np.ones((1, 4), np.float32)
    keys = shared_keys(queries)
    assert np.array_equal(keys, [[0.0] * 4] * 5 + [[0.5] * 4])
    found = attend(one_bucket(4), queries, np.ones_like(queries))
    out, _ = Stream(one_bucket(4), 4, shared=True).steps(queries, np.ones_like(queries))
    assert np.array_equal(found.out[-1], np.ones(4))
    assert np.array_equal(out[-1], np.ones(4))


def test_the_package_exports_what_the_page_names_and_imports_it_only_when_it_is_used() -> None:
    """Also where torch is missing: in a new process, nothing compiled and no torch comes with the package itself."""
    page = (Path(__file__).parents[2] / "docs/attention.md").read_text("utf-8")
    table = page[page.index("## The Python interface") : page.index("## What it computes")]
    named = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    results = {"Attention", "Hash", "Telemetry"}
    assert {*named} | results == {*esd.attention.__all__}
    for name in esd.attention.__all__:
        assert getattr(esd.attention, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'atend'"):
        esd.attention.atend  # noqa: B018
    code = "import sys, esd.attention; print({'torch', 'numba'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
