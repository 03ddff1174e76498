"""Checkpoints: everything comes back bit for bit, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.errors import RunError, UsageError
from esd.evolution.observations import ObservationStatistics
from esd.evolution.openai_es import EvolutionState
from esd.evolution.state import RunState
from esd.run import checkpoint
from esd.run.checkpoint import Checkpoint


def state(observations: int = 3) -> RunState:
    """A state with everything in it."""
    rng = np.random.default_rng(0)
    return RunState(
        EvolutionState(
            7,
            rng.standard_normal(50).astype(np.float32),
            {"first_moment": rng.standard_normal(50).astype(np.float32)},
            {"sigma": 0.1, "beta1_power": 0.9**7},
        ),
        ObservationStatistics(
            12.0 if observations else 0.0,
            rng.standard_normal(observations),
            rng.standard_normal(observations) ** 2,
        ),
    )


@pytest.mark.parametrize("observations", [0, 3])
def test_a_state_comes_back_bit_for_bit(observations: int, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, Checkpoint("identity", state(observations), 1 / 3))
    loaded = checkpoint.load(path)
    assert loaded.identity == "identity"
    assert loaded.center_return == 1 / 3
    assert loaded.state.sha256() == state(observations).sha256()
    assert loaded.state.evolution.scalars == state(observations).evolution.scalars
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_the_hash_of_a_state_covers_every_part_of_it() -> None:
    import dataclasses

    whole = state()
    e, o = whole.evolution, whole.observations
    others = [
        RunState(dataclasses.replace(e, generation=8), o),
        RunState(dataclasses.replace(e, h=e.h + np.float32(1e-7)), o),
        RunState(dataclasses.replace(e, vectors={"first_moment": -e.vectors["first_moment"]}), o),
        RunState(dataclasses.replace(e, scalars={**e.scalars, "sigma": 0.2}), o),
        RunState(e, dataclasses.replace(o, count=13.0)),
        RunState(e, dataclasses.replace(o, sums=o.sums + 1e-12)),
    ]
    hashes = {s.sha256() for s in [whole, *others]}
    assert len(hashes) == len(others) + 1


def test_h_sha256_is_of_little_endian_float32() -> None:
    import hashlib

    h = state().h
    assert state().h_sha256() == hashlib.sha256(h.astype("<f4").tobytes()).hexdigest()


@given(data=st.data())
@settings(max_examples=200)
def test_no_cut_and_no_damaged_byte_goes_unnoticed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "c.safetensors"
    checkpoint.save(path, Checkpoint("identity", state()))
    whole = path.read_bytes()
    if data.draw(st.booleans(), "cut"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), "at")])
    else:
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1), "at")] ^= data.draw(
            st.integers(1, 255), "flip"
        )
        path.write_bytes(bytes(damaged))
    try:
        loaded = checkpoint.load(path)
    except UsageError:
        return
    # what is not the state itself may be damaged without its hash being wrong: the names of the run it belongs to
    assert loaded.state.sha256() == state().sha256()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04" * 30, bytes(1000)])
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"c\.safetensors"):
        checkpoint.load(path)


def test_somebody_elses_safetensors_are_refused(tmp_path: Path) -> None:
    import safetensors.numpy

    path = tmp_path / "c.safetensors"
    path.write_bytes(safetensors.numpy.save({"h": np.zeros(3, np.float32)}))
    with pytest.raises(UsageError, match="is not a checkpoint of esd"):
        checkpoint.load(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, Checkpoint("identity", state()))
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(RunError, match="the old file is unchanged"):
        checkpoint.save(path, Checkpoint("other", state()))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
