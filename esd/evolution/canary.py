"""A canary: what a machine computes, as one number. What is hashed is the problem's business."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Canary:
    """Two hashes of 16 hexadecimal digits.

    Attributes:
        cpu: of what this process computes alone on its CPU.
        evaluator: of what its evaluator of members computes.
    """

    cpu: str
    evaluator: str
