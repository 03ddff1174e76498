"""The first episode, played again during training: what leaks too slowly for the check at the start is found.

In the generations 1, 2, 4, 8 and so on, and after the last, each rank plays it again in the objects that have played
all of the members' episodes since: in the environment with the outputs that were given then, and with a user's policy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esd.episodes import purity
from esd.episodes.purity import CALLER, ENVIRONMENT, Event, Log, Player, difference_between
from esd.episodes.rollout import Rollout
from esd.errors import RunError
from esd.evolution.global_generators import seed_global_generators
from esd.policies.guard import GuardedPolicy

Float32s = npt.NDArray[np.float32]


class Tape:
    """Outputs of one episode per variant, and what the environment gave for them.

    Args:
        player: whose first member plays.
    """

    def __init__(self, player: Player) -> None:
        """Record."""
        self._player = player
        self._rollout: Rollout = player.rollout
        self._outputs: list[list[Float32s]] = []
        self._first: list[list[Event]] = []
        self._whole: list[list[Event]] = []
        player.begin()
        for variant in range(len(self._rollout.variants)):
            bits: list[bytes] = []
            self._whole.append(player.play(variant, 0, purity.AT_START.steps, told=bits.append))
            self._outputs.append([np.frombuffer(b, "<f4").astype(np.float32) for b in bits])
            self._first.append(self._played(variant))
        # a policy that draws from the global generators moves them for the environment: without it, all is another
        self.usable = self._difference() is None

    def check(self, generation: int, last: bool = False) -> None:
        """Play the episodes again in some generations; the policy has a member's parameters of the start afterwards.

        Args:
            generation: that is about to begin.
            last: there is none; the run is about to end.

        Raises:
            RunError: if one is another than at the start.
        """
        if generation < 1 or (generation & (generation - 1) and not last):
            return
        when = "after the last generation" if last else f"before generation {generation}"
        self._check_environment(when)
        if isinstance(self._rollout.policy, GuardedPolicy):
            self._check_policy(when)

    def _check_environment(self, when: str) -> None:
        found = self._difference() if self.usable else None
        if found is not None:
            where = f"in step {found.step}" if found.step else "after reset"
            env = self._rollout.config.env
            raise RunError(
                f"env.id = {env.id!r}: the environment or a wrapper no longer behaves as at the start: the same "
                f"episode, repeated {when}, had a different {found.what} {where}, after the "
                "same actions. It keeps state from earlier episodes, so results depend on the number of ranks: let "
                'its reset() set everything that its step() changes, or try env.rebuild = "always"; esd doctor '
                "checks this. To continue anyway: --set run.allow_drift=true"
            )

    def _check_policy(self, when: str) -> None:
        self._player.begin()
        for variant, first in enumerate(self._whole):
            again = self._player.play(variant, 0, purity.AT_START.steps)
            found = difference_between(first, again)
            if found is not None:
                kind = self._rollout.config.policy.kind
                raise RunError(
                    f"policy.kind = {kind!r}: the policy no longer behaves as at the start: the same episode with the "
                    f"same parameters, repeated {when}, had a different {found.what} in step {found.step}. It keeps "
                    "state from earlier episodes or members, so results depend on the number of ranks: let load() "
                    "and reset() set everything that act() changes. To continue anyway: --set run.allow_drift=true"
                )

    def _difference(self) -> Event | None:
        for variant, first in enumerate(self._first):
            found = difference_between(first, self._played(variant))
            if found is not None:
                return found
        return None

    def _played(self, variant: int) -> list[Event]:
        """What the environment gives for the recorded outputs."""
        environments, log = self._rollout.environments, Log()
        outputs = self._outputs[variant]
        seeds = purity.seeds_of(self._rollout, variant, 0)
        environments.watch = lambda env: purity.Probe(env, log, CALLER, ENVIRONMENT)
        try:
            episode = environments.play(
                [seeds],
                lambda begun: seed_global_generators(begun.environment),
                purity.AT_START.steps,
                stepwise=True,
            )
            next(episode)
            for output in outputs:
                episode.send(output)
        except StopIteration:
            pass
        finally:
            environments.watch = None
        return log.events
