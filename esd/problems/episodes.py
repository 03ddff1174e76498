"""Episodes as a problem: a policy in Gymnasium environments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from esd.config.objective import STOP
from esd.config.settings import Config
from esd.episodes import canary, purity, side_by_side
from esd.episodes.check_at_start import is_checked
from esd.episodes.evaluator import OF_ONE_MEMBER, OneByOne, Player
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.side_by_side import SideBySide
from esd.episodes.stateful_wrappers import refuse_named
from esd.episodes.tape import Tape
from esd.episodes.under_way import are_alike
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.canary import Canary
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose
from esd.evolution.records import Records
from esd.evolution.state import RunState, start
from esd.policies.base import Interface
from esd.policies.guard import GuardedPolicy, unguarded

Float32s = npt.NDArray[np.float32]

MORE_EPISODES = 8  # before an environment is refused that gave NaN in the canary's


class EpisodesProblem:
    """See ``esd.problem.Problem``.

    Attributes:
        rollout: environments and policy.
    """

    def __init__(self, config: Config) -> None:
        """Build environments and policy.

        Raises:
            UsageError: if the config asks for what doesn't exist or doesn't fit together.
        """
        if is_checked(config):
            refuse_named(config.env)
        self.rollout = Rollout(config)
        self._notes: list[str] = []
        try:
            self.rollout.environments.refuse_useless_settings()
            self.rollout.drop_unequal_steps(canary.STEPS)
        except UsageError:
            self.rollout.close()
            raise

    @property
    def layout(self) -> Layout:
        """The policy's named arrays."""
        return self.rollout.policy.layout

    @property
    def interface(self) -> Interface:
        """The environment's sizes."""
        return self.rollout.interface

    @property
    def variants(self) -> tuple[str, ...]:
        """The trained variants' names."""
        return self.rollout.variants

    @property
    def observation_size(self) -> int:
        """Numbers in an observation, if observations are normalized; otherwise 0."""
        return self.rollout.observation_size

    @property
    def center_episodes(self) -> int:
        """As many as ``run.center_episodes`` says."""
        return self.rollout.config.run.center_episodes

    @property
    def notes(self) -> list[str]:
        """How episodes are played, and members."""
        return [*self.rollout.how_played(), *self._notes]

    def initial_parameters(self, seed: int) -> Float32s:
        """The policy's h_0, in memory of our own: a policy may go on to use its array."""
        return np.array(self.rollout.policy.initial_parameters(seed))

    def evaluator(self, algorithm: Algorithm, ranks: int, node_rank: int) -> EpisodesEvaluator:
        """See ``Problem.evaluator``.

        Raises:
            UsageError: if the device is not there, or the policy can't be played in lock-step.
        """
        self._notes.clear()
        player = make_player(self.rollout, algorithm, ranks, node_rank, self._notes.append)
        return EpisodesEvaluator(self.rollout, algorithm, player)

    def close(self) -> None:
        """Close the environments."""
        self.rollout.close()


class EpisodesEvaluator:
    """See ``esd.problems.base.Evaluator``.

    Attributes:
        player: plays the members' episodes.
    """

    def __init__(self, rollout: Rollout, algorithm: Algorithm, player: Player) -> None:
        """Evaluate an algorithm's members with a player."""
        self._rollout, self._algorithm, self.player = rollout, algorithm, player
        self._tape: Tape | None = None

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """See ``Evaluator.fill``."""
        if self._tape is not None:
            self._tape.check(state.generation, last=not records.members)
        self.player.fill(state, rows, records)

    def canary(self, h0: Float32s, journal_version: int) -> Canary:
        """See ``Evaluator.canary``.

        Raises:
            UsageError: if the environment gives NaN or infinity in all of the canary's episodes, or raises in one.
        """
        rollout, algorithm = self._rollout, self._algorithm
        try:
            found = canary.compute(rollout, algorithm, self.player, h0, journal_version)
        except OF_ONE_MEMBER as error:
            if rollout.config.env.on_failure == STOP:
                raise
            raise type(error)(
                f"{error}. No episode may fail in the check before the first generation, also with env.on_failure = "
                '"worst". Fix the environment; if it fails in few episodes, another seed may have others'
            ) from error.__cause__
        self._refuse_never_finite()
        checked = is_checked(rollout.config) and isinstance(self.player, OneByOne)
        # compiled steps keep nothing beside what reset writes, and our own policies nothing beside what load does
        if checked and (
            not rollout.environments.steps_compiled or isinstance(rollout.policy, GuardedPolicy)
        ):
            state = start(algorithm, h0, rollout.observation_size)
            self._tape = Tape(purity.Player(rollout, algorithm, state))
        return found

    def _refuse_never_finite(self) -> None:
        """Refuse an environment that has given NaN in all episodes so far, unless some more of them are finite."""
        environments = self._rollout.environments
        if not environments.never_finite:
            return
        seed, first = self._rollout.config.seed, canary.EPISODES
        seeds = [
            EpisodeSeeds.named(seed, Purpose.CANARY, 0, 0, episode, variant)
            for episode in range(first, first + MORE_EPISODES)
            for variant in environments.never_finite
        ]
        self._rollout.play(seeds, canary.STEPS)
        environments.refuse_never_finite()

    def close(self) -> None:
        """Close the player; the rollout is its owner's."""
        self.player.close()


def make_player(
    rollout: Rollout,
    algorithm: Algorithm,
    ranks: int,
    node_rank: int,
    note: Callable[[str], object] = str,
) -> Player:
    """What plays members as the config asks for it; torch is imported only for the one that needs it.

    Args:
        rollout: environment and policy; the device in its config is resolved.
        algorithm: whose members are played.
        ranks: how many share the rows.
        node_rank: this rank's number on its machine.
        note: is told what a user should know of it, in a line.

    Raises:
        UsageError: if torch or the device is not there, or the policy can't be played in lock-step.
    """
    config = rollout.config
    if not config.lockstep:
        if side_by_side.can_play(rollout):
            return SideBySide(rollout, algorithm, ranks)
        batched = config.format > 1 and config.batch_members == 0 and _is_torch_module(rollout)
        player = _batched_module(rollout, algorithm, ranks, note) if batched else None
        return player or OneByOne(rollout, algorithm)
    from esd.lockstep import require_torch

    require_torch(config)
    from esd.lockstep.device import device_of
    from esd.lockstep.evaluator import Lockstep

    device = device_of(config, node_rank)
    try:
        return Lockstep(rollout, algorithm, ranks, device)
    except (
        MemoryError,
        RuntimeError,
    ) as error:  # of the CPU's memory torch tells by a RuntimeError
        text = str(error).lower()
        if "memory" not in text and "overflow" not in text:  # of the bytes that would be needed
            raise
        raise UsageError(
            f"batch_members = {config.batch_members}: this many networks do not fit into the memory of {device}; "
            "use fewer"
        ) from error


def _is_torch_module(rollout: Rollout) -> bool:
    """Whether the policy is a torch.nn.Module; whoever wrote one has imported torch by now."""
    if "torch" not in sys.modules:
        return False
    from esd.policies.torch_module import TorchPolicy

    return isinstance(unguarded(rollout.policy), TorchPolicy)


def _batched_module(
    rollout: Rollout, algorithm: Algorithm, ranks: int, note: Callable[[str], object]
) -> Player | None:
    """A player of many members of a torch module at once; None, and a note, if there is none or it would not pay.

    Which it is depends on nothing but the config, the module and the environment: every rank comes to the same.
    """
    import torch

    from esd.lockstep.evaluator import Lockstep
    from esd.lockstep.module import NotTogetherError, members_at_once, pays

    who, size = unguarded(rollout.policy).who, rollout.policy.layout.size
    compiled = rollout.environments.all_steps()
    if compiled is None or not are_alike(compiled):
        why = (
            "the environment runs in Python, so lock-step would hardly be faster. batch_members = 64 evaluates "
            "64 at a time"
        )
    elif not pays(size):
        why = f"with {size:,} parameters this is faster"
    else:
        try:
            player = Lockstep(rollout, algorithm, ranks, torch.device("cpu"))
        except NotTogetherError as error:
            why = error.why
        else:
            note(f"{who}: {members_at_once(size)} members are evaluated at a time")
            return player
    note(f"{who}: members are evaluated one at a time: {why}")
    return None
