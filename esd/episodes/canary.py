"""A canary: what this machine computes, as one number.

Our own arithmetic is the same bits everywhere; a physics engine's may not be. At start every rank hashes a little of
everything that h depends on (the settings, noise, h_0, the policy's outputs in short episodes and what these gave) and
the ranks compare. Outputs are hashed bit by bit: a return that counts steps or right answers tells little of them.

A run may go on on another device, so the canary that its journal keeps is always that of the compiled path on the CPU,
which every machine has. What the player of the members makes of the same episodes is compared between ranks, and
with the CPU if it promises the same bits.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from esd.config.identity import identity
from esd.episodes.check_at_start import check_purity, is_checked
from esd.episodes.evaluator import OneByOne, Player
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import RunError
from esd.evolution.algorithm import Algorithm
from esd.evolution.canary import Canary
from esd.evolution.noise import Purpose
from esd.evolution.state import start

EPISODES = 2  # on each variant; the second shows whether the first leaks into it
STEPS = 32


def compute(
    rollout: Rollout,
    algorithm: Algorithm,
    player: Player,
    h0: npt.NDArray[np.float32],
    journal_version: int,
) -> Canary:
    """Hash what this process computes.

    Args:
        rollout: environment and policy.
        algorithm: whose first perturbation is hashed.
        player: of the members.
        h0: float32 [|h|].
        journal_version: of the journal that it is compared with; before version 3 the canary's episodes were drawn
            from the test stream.

    Raises:
        UsageError: if a wrapper keeps statistics of the episodes before.
        RunError: if the same episode played again is another one: the environment or the policy is not a pure
            function of its seeds, so nothing about the run could be reproduced; or if a device that promises the
            CPU's bits has others.
    """
    config = rollout.config
    state = start(algorithm, h0, rollout.observation_size)
    gave = check_purity(rollout, algorithm, state) if is_checked(config) else ""
    perturbed = algorithm.ask(state.evolution, 1, np.empty_like(h0))
    stream = (Purpose.TEST_EPISODE, 0, 1) if journal_version < 3 else (Purpose.CANARY, 0, 0)
    seeds = [
        EpisodeSeeds.named(config.seed, *stream, episode, variant)
        for variant in range(len(rollout.variants))
        for episode in range(EPISODES)
    ]
    alone = OneByOne(rollout, algorithm)
    players = [alone] if isinstance(player, OneByOne) else [alone, player]
    results = []
    for each in players:
        outcomes = each.rehearse(state, 1, seeds, STEPS)
        texts = [f"{outcome.returns!r} {outcome.steps}" for outcome in outcomes]
        other = next((text for text in texts if text != texts[0]), None)
        if other is not None and not config.run.allow_drift:
            raise RunError(
                f"env.id = {config.env.id!r}: the same episodes, run several times with the same seeds, gave "
                f"different results (returns and steps {texts[0]}, then {other}). State leaks from one episode into "
                'another: try env.rebuild = "always", or accept it with run.allow_drift = true'
            )
        results.append(texts[0])
    outputs = hashlib.sha256()
    outcome = rollout.play(seeds, STEPS, stepwise=True, told=outputs.update)
    text = f"{outcome.returns!r} {outcome.steps}"
    if rollout.environments.steps_compiled and text != results[0] and not config.run.allow_drift:
        raise RunError(
            f"env.id = {config.env.id!r}: its compiled functions and its own step give different results (returns "
            f"and steps {results[0]}, and {text}). Fix one of them, or remove env.unwrapped.compiled"
        )
    if player.same_bits and results[-1] != results[0] and not config.run.allow_drift:
        raise RunError(
            f"device = {config.device!r}: computes other bits than the CPU (returns and steps {results[-1]}, not "
            f'{results[0]}). Use device = "cpu", or accept it with run.allow_drift = true'
        )
    digest = hashlib.sha256(f"{identity(config)} {results[0]}".encode())
    digest.update(h0.astype("<f4", copy=False).data)
    digest.update(perturbed.astype("<f4", copy=False).data)
    digest.update(outputs.digest())
    cpu = digest.hexdigest()[:16]
    # what differs late in an episode is seen by the ranks; the journal's canary is of its first steps
    here = hashlib.sha256(f"{cpu} {results[-1]} {gave}".encode()).hexdigest()[:16]
    return Canary(cpu, here)
