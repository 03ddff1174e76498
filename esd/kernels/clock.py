"""What time it is in an episode: sine and cosine of the step's number, for several periods."""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import cosine, sine

# a row for every step of every period, period after period
FACE = np.dtype([("sine", np.float32), ("cosine", np.float32), ("period", np.int64)], align=True)

f32 = np.float32
_FULL_TURN = 2.0 * np.pi


@kernel
def draw_face(periods, face):
    """Set the face, ``FACE`` [Σ periods], to sine and cosine of 2πk/p, for k < p, period after period.

    By whole quarter turns and what is left of them, at most an eighth, so that they are the same on every machine.
    """
    at = 0
    for period in periods:
        for k in range(period):
            quarters = (8 * k + period) // (2 * period)
            rest = f32(_FULL_TURN * (4 * k - quarters * period) / (4 * period))
            s, c = sine(rest), cosine(rest)
            for _ in range(quarters & 3):
                s, c = c, -s
            face[at].sine, face[at].cosine, face[at].period = s, c, period
            at += 1


@inlined
def read(step, face, features):
    """Set features, float32 [2 · periods], to sine and cosine of a step for each period."""
    start = 0
    for i in range(0, features.size, 2):
        period = face[start].period
        now = face[start + step % period]
        features[i] = now.sine
        features[i + 1] = now.cosine
        start += period
