"""A canary: what a machine computes, as one number. What is hashed is the problem's business."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Canary:
    """Two hashes of 16 hexadecimal digits.

    Attributes:
        cpu: of what this process computes alone on its CPU.
        evaluator: of what its evaluator of members computes.
        unevaluated: the hash without an evaluation, which a run's journal holds if it was begun unchecked; empty if
            there is always one.
    """

    cpu: str
    evaluator: str
    unevaluated: str = ""

    def agrees_with(self, begun: str) -> bool:
        """Whether this machine computes what the one did that a run was begun on, by the hash in its journal."""
        checked = self.cpu != self.unevaluated
        return not checked or begun in (self.cpu, self.unevaluated)
