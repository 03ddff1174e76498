"""Whose initial weights a plastic network begins an episode with: the episode's, a member's or the run's.

``policy.draw_weights`` says which. The seeds of what is drawn once per member or per run depend on the run's seed and
on the member alone, so they are the same in all generations, on any number of ranks and after a resume (law 1). HAN
(arXiv 2603.22512) draws weights once per member of the population.
"""

from __future__ import annotations

from collections.abc import Callable

from esd.config.settings import Config
from esd.episodes.seeds import EpisodeSeeds
from esd.evolution.noise import Purpose, words
from esd.policies.hebbian import HebbianSettings

# how many members have weights of their own: those that share episodes share their weights, too
_SHARING: dict[str, Callable[[int], int]] = {
    "none": lambda population: population,
    "pair": lambda population: population // 2,
    "generation": lambda population: 1,
}


class WeightSeeds:
    """Puts the seeds of initial weights into those of episodes.

    Attributes:
        of_episodes: every episode has its own, and nothing has to be put in.
    """

    def __init__(self, config: Config) -> None:
        """Read what a run asks for."""
        settings = config.policy.settings
        draw = settings.draw_weights if isinstance(settings, HebbianSettings) else "episode"
        self.of_episodes = draw == "episode"
        self._seed = config.seed
        members = _SHARING[config.es.common_random_numbers](config.population)
        self._sets = 1 if draw == "run" else members

    def put(self, seeds: list[EpisodeSeeds], number: int) -> list[EpisodeSeeds]:
        """The seeds of episodes with the weights of a member, or of whatever else has a number.

        Args:
            seeds: of the episodes.
            number: of the member among those that don't share their episodes; of an episode of the center or of a test,
                which take the members' weights in turn.
        """
        if self.of_episodes:
            return seeds
        shared = self._of_set(number)
        return [seed._replace(policy=shared) for seed in seeds]

    def of_seed(self, seed: int) -> int:
        """The seed of the initial weights of an episode outside of training that has just one seed.

        It is this seed itself, or the one of the set that test episode number ``seed`` begins with.
        """
        return seed if self.of_episodes else self._of_set(seed)

    def _of_set(self, number: int) -> int:
        w = words(self._seed, Purpose.WEIGHT_SEEDS, number % self._sets).tolist()
        seed: int = w[2] | w[3] << 32
        return seed
