"""What an episode's randomness comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esd.evolution.noise import Purpose, consecutive_words, words


@dataclass(frozen=True)
class EpisodeSeeds:
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
        cls, seed: int, purpose: Purpose, generation: int, owner: int, variants: Sequence[int]
    ) -> list[EpisodeSeeds]:
        """The seeds of the episodes 0, 1, …, each on its variant: what ``named`` gives one by one."""
        w = consecutive_words(seed, purpose, len(variants), 0, owner, generation)
        of_episodes = zip(w.T.tolist(), variants, strict=True)
        return [cls._of_words(w, variant) for w, variant in of_episodes]

    @classmethod
    def _of_words(cls, w: list[int], variant: int) -> EpisodeSeeds:
        return cls(w[0] & 0x7FFFFFFF, w[2] | w[3] << 32, variant)
