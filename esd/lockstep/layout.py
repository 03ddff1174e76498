"""Many members' parameters as named arrays."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from esd.evolution.layout import Layout


def unpacked(layout: Layout, parameters: Tensor) -> dict[str, Tensor]:
    """``Layout.unpack`` of many vectors: [n, |h|] to views [n, *shape]."""
    arrays, start = {}, 0
    for name, shape in layout.shapes.items():
        count = int(np.prod(shape))
        flat = parameters[:, start : start + count]
        if layout.order == "C":
            arrays[name] = flat.reshape(-1, *shape)
        else:
            backwards = flat.reshape(-1, *reversed(shape))
            arrays[name] = backwards.permute(0, *range(len(shape), 0, -1))
        start += count
    return arrays
