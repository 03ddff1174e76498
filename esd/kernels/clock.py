"""What time it is in an episode: sine and cosine of the step's number, for several periods."""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import cosine, sine

f32 = np.float32
_FULL_TURN = 2.0 * np.pi


@kernel
def draw_face(periods, face):
    """Set face[k], float32 [Σ periods, 2], to sine and cosine of 2πk/p, for k < p, period after period.

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
            face[at, 0], face[at, 1] = s, c
            at += 1


@inlined
def read(step, periods, face, features):
    """Set features, float32 [2 · periods], to sine and cosine of a step for each period."""
    start = 0
    for i in range(periods.size):
        at = start + step % periods[i]
        features[2 * i] = face[at, 0]
        features[2 * i + 1] = face[at, 1]
        start += periods[i]
