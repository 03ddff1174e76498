"""What an episode's randomness comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from esd.evolution.noise import Purpose, words, words_of_many


class EpisodeSeeds(NamedTuple):
    """What makes one episode the one it is.

    Attributes:
        environment: for ``reset`` and the global generators, 31 bits.
        policy: for the initial weights, 64 bits.
        variant: which of the trained variants it is played on.
    """

    environment: int
    policy: int
    variant: int = 0

    @classmethod
    def named(
        cls,
        seed: int,
        purpose: Purpose,
        generation: int,
        owner: int,
        episode: int,
        variant: int = 0,
    ) -> EpisodeSeeds:
        """The seeds of an episode by its coordinates; two purposes never share any, the variants do."""
        return cls._of_words(words(seed, purpose, episode, owner, generation).tolist(), variant)

    @classmethod
    def consecutive(
        cls,
        seed: int,
        purpose: Purpose,
        generation: int,
        owners: Sequence[int],
        variants: Sequence[int],
    ) -> list[list[EpisodeSeeds]]:
        """Every owner's episodes 0, 1, …, each on its variant: what ``named`` gives one by one."""
        w = words_of_many(seed, purpose, len(variants), owners, generation)
        low, high = w[:, 2].astype(np.uint64), w[:, 3].astype(np.uint64)
        environments = (w[:, 0] & np.uint32(0x7FFFFFFF)).tolist()
        policies = (low | high << np.uint64(32)).tolist()
        return [
            list(map(cls, of_owner, its_policies, variants))
            for of_owner, its_policies in zip(environments, policies, strict=True)
        ]

    @classmethod
    def _of_words(cls, w: list[int], variant: int) -> EpisodeSeeds:
        return cls(w[0] & 0x7FFFFFFF, w[2] | w[3] << 32, variant)
