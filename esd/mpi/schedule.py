"""Who evaluates whom. Any rank may take any row, since an evaluation is a pure function (law 1)."""

from __future__ import annotations


def share_of(rank: int, size: int, rows: int) -> range:
    """The rows of a rank: every size-th, so that the rows left over go to different ranks."""
    return range(rank, rows, size)
