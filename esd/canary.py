"""A canary: what this machine computes, as one number.

Our own arithmetic is the same bits everywhere; a physics engine's may not be. At start every rank hashes a little of
everything that h depends on (the settings, noise, h_0, the policy's kernel, one short episode) and the ranks compare.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from esd.config import Config
from esd.config_tables import identity
from esd.errors import RunError
from esd.mpi.comm import Communicator, gather
from esd.noise import Purpose
from esd.rollout import EpisodeSeeds, Rollout
from esd.state import make_strategy, start

EPISODES = 2  # the second shows whether the first leaks into it
STEPS = 32


def compute(config: Config, rollout: Rollout, h0: npt.NDArray[np.float32]) -> str:
    """Hash what this process computes: 16 hexadecimal digits.

    Raises:
        RunError: if the same episode played twice gives two results: the environment or the policy is not a pure
            function of its seeds, so nothing about the run could be reproduced.
    """
    strategy = make_strategy(config)
    state = start(strategy, h0, rollout.observation_size)
    perturbed = strategy.ask(state.evolution, 1, np.empty_like(h0))
    rollout.use_statistics(state.observations)
    seeds = [
        EpisodeSeeds.named(config.seed, Purpose.TEST_EPISODE, 0, 1, e) for e in range(EPISODES)
    ]
    outcomes = [rollout.evaluate(perturbed, seeds, STEPS) for _ in range(2)]
    texts = [f"{outcome.mean_return!r} {outcome.steps}" for outcome in outcomes]
    if texts[0] != texts[1] and not config.run.allow_drift:
        raise RunError(
            f"env.id = {config.env.id!r}: the same episodes, played twice with the same seeds, gave different results "
            f"(return and steps {texts[0]}, then {texts[1]}). Something leaks from one episode into the next: try "
            'env.rebuild = "always", or accept it with run.allow_drift = true'
        )
    digest = hashlib.sha256(f"{identity(config)} {texts[0]}".encode())
    digest.update(h0.astype("<f4", copy=False).data)
    digest.update(perturbed.astype("<f4", copy=False).data)
    return digest.hexdigest()[:16]


def compare(comm: Communicator, canary: str, allow_drift: bool) -> None:
    """Make sure that all ranks compute the same.

    Raises:
        RunError: naming the ranks that differ from rank 0, unless drift is allowed.
    """
    values = gather(comm, int(canary, 16), "comparing canaries")
    different = np.flatnonzero(values != values[0])
    if different.size and not allow_drift:
        ranks = ", ".join(str(rank) for rank in different[:8])
        raise RunError(
            f"{different.size} of {comm.size} ranks compute other bits than rank 0 (ranks {ranks}): their versions of "
            "the environment, the policy or a library differ, or the physics engine depends on the processor. Use "
            "machines of one kind, or accept it with run.allow_drift = true"
        )
