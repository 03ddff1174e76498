"""The clock that policies with a memory may read."""

from __future__ import annotations

import numpy as np

from esd.policies.recurrent import clock_face


def test_its_face_is_sine_and_cosine_to_the_last_bits() -> None:
    periods = (2, 3, 4, 7, 8, 256, 1000)
    face = clock_face(periods)
    angles = np.concatenate([2.0 * np.pi * np.arange(period) / period for period in periods])
    np.testing.assert_allclose(face["sine"], np.sin(angles), atol=1.2e-7)
    np.testing.assert_allclose(face["cosine"], np.cos(angles), atol=1.2e-7)
    assert face["sine"].dtype == face["cosine"].dtype == np.float32


def test_whole_quarters_are_exact() -> None:
    face = clock_face((4,))
    np.testing.assert_array_equal(face["sine"], [0, 1, 0, -1])
    np.testing.assert_array_equal(face["cosine"], [1, 0, -1, 0])
