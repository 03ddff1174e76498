"""Many members in lock-step: each slot holds one row, and all slots' networks take a step together.

Environments that are interleaved would share Python's and numpy's global generators. Saving and restoring those around
every step was measured at 160 µs, many times a CartPole step, so an environment that touches them is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from esd.episodes.environments import REPLAYS, Outcome, global_generators
from esd.episodes.evaluator import Rows, Task, blaming
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState
from esd.lockstep.noise import perturbed
from esd.lockstep.policies import BatchPolicy, make_batch_policy, slots_of
from esd.lockstep.worlds import Ended, Worlds, worlds_of

Keep = Callable[[Task, Outcome, npt.NDArray[np.float64] | None], None]


class Lockstep:
    """A ``Player`` that plays ``batch_members`` rows at a time.

    Args:
        rollout: what plays alone; it says what the rows are.
        algorithm: whose members are played.
        ranks: how many share the rows: nobody takes more than its share at once, or others would stand idle.
        device: where the networks are.

    Attributes:
        same_bits: see ``Player``.
    """

    def __init__(
        self, rollout: Rollout, algorithm: Algorithm, ranks: int, device: torch.device
    ) -> None:
        """Allocate all slots.

        Raises:
            UsageError: if the policy has no batch path.
        """
        torch.set_num_threads(1)  # ranks are the parallelism
        # not TF32, which keeps 10 bits of what a module multiplies
        torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
        # under its old name, too: otherwise PyTorch takes the two for a contradiction, and torch.export fails
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        config = self._config = rollout.config
        self._rollout, self._ranks, self._device = rollout, ranks, device
        self._rows = Rows(rollout, algorithm)
        self._slots = slots_of(config, rollout.policy, device)
        self._room = min(self._slots, config.batch_members or self._slots)
        interface = rollout.interface
        self._policy: BatchPolicy = make_batch_policy(config, rollout.policy, interface, device)
        self.same_bits = self._policy.same_bits
        self._worlds: Worlds = worlds_of(rollout, self._slots, self._policy.reset)
        self._replays_left = REPLAYS

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """See ``Player.fill``."""

        def keep(task: Task, outcome: Outcome, seen: npt.NDArray[np.float64] | None) -> None:
            self._rows.write(records, state, task, outcome, seen)

        share = -(-len(records.table) // self._ranks)
        self._play(state, (self._rows.task(state, row, records) for row in rows), share, keep)

    def rehearse(
        self, state: RunState, member: int, seeds: list[EpisodeSeeds], limit: int
    ) -> list[Outcome]:
        """See ``Player.rehearse``: beside another member, after one, and in the last slot if that may not matter."""
        last = self._slots - 1
        own = {0, self._slots} | ({last} if self.same_bits else set())
        rows = sorted(own | {1, self._slots + 1})
        outcomes: list[Outcome] = []

        def keep(task: Task, outcome: Outcome, seen: object) -> None:
            if task.row in own:
                outcomes.append(outcome)

        tasks = (Task(row, member if row in own else member ^ 1, seeds) for row in rows)
        self._play(state, tasks, self._slots, keep, limit)
        return outcomes

    def _play(
        self,
        state: RunState,
        tasks: Iterator[Task],
        room: int,
        keep: Keep,
        limit: int | None = None,
    ) -> None:
        """Play tasks as they are drawn, at most ``room`` at a time; ``keep`` is told of each when it is done."""
        room = min(room, self._room)
        h = torch.tensor(state.h, device=self._device)
        worlds = self._worlds
        worlds.start(state)
        generators = global_generators()
        waiting: list[Task] = []
        unexplained: list[Ended] = []
        while True:
            playing = worlds.playing()
            while len(playing) + len(waiting) < room:
                task = next(tasks, None)
                if task is None:
                    room = 0
                else:
                    waiting.append(task)
            starting = self._placed(waiting, playing)
            self._load(state, h, starting)
            ended = [
                end for slot in starting for end in worlds.begin(state, slot, starting[slot], limit)
            ]
            while not ended and worlds.playing():
                outputs = self._policy.act(worlds.observations)
                ended = list(worlds.step(state, outputs))
            for end in ended:
                task, outcome, seen = end
                if outcome.status is Status.DONE or outcome.failure:
                    keep(task, outcome, seen)
                else:
                    unexplained.append(end)
            if not (room or waiting or ended):
                break
        if global_generators() != generators:
            alone = 1 if self._config.format > 1 else 0
            raise UsageError(
                f"env.id = {self._config.env.id!r}: draws from Python's or numpy's global random generator, which "
                "episodes in lock-step would share, so results could not be reproduced. Let it draw from "
                f'self.np_random, or use device = "cpu" and batch_members = {alone}'
            )
        for task, outcome, seen in unexplained:  # not before: playing alone seeds those generators
            keep(task, self._explained(state, task, outcome, limit), seen)

    def _explained(
        self, state: RunState, task: Task, outcome: Outcome, limit: int | None
    ) -> Outcome:
        """An outcome that says why episodes failed, which were played where that isn't known."""
        failure = f"env.id = {self._config.env.id!r}: an episode's return is not finite"
        if self._replays_left:
            self._replays_left -= 1
            with blaming(state, task):
                self._rollout.use_statistics(state.observations)
                self._rollout.load(self._rows.pieces(state, task))
                failure = self._rollout.play(task.seeds, limit).failure or failure
        return dataclasses.replace(outcome, failure=failure)

    def _placed(self, waiting: list[Task], playing: set[int]) -> dict[int, Task]:
        """Take what can start now out of ``waiting``, by slot.

        A row's slot is its number modulo the slots. If bits may depend on the slot, it waits until that one is free;
        they are then still a function of the row alone (law 1).
        """
        if not waiting:
            return {}
        free = [slot for slot in range(self._slots) if slot not in playing]
        starting: dict[int, Task] = {}
        for task in list(waiting):
            slot = task.row % self._slots
            if slot not in free:
                if not free or not self.same_bits:
                    continue
                slot = free[0]
            free.remove(slot)
            waiting.remove(task)
            starting[slot] = task
        return starting

    def _load(self, state: RunState, h: torch.Tensor, starting: dict[int, Task]) -> None:
        """Put the parameters of what starts into the slots."""
        members = {slot: t.member for slot, t in starting.items() if t.member is not None}
        if members:
            self._policy.load([*members], self._perturbed(state, h, [*members.values()]))
        centers = [slot for slot in starting if slot not in members]
        if centers:
            self._policy.load(centers, h.expand(len(centers), -1))

    def _perturbed(self, state: RunState, h: torch.Tensor, members: list[int]) -> torch.Tensor:
        """Members' h + Δh, float32 [members, |h|].

        Made on a GPU where each ε is only multiplied by something; the CPU's kernels give the same bits.
        """
        algorithm, noise = self._rows.algorithm, self._rows.algorithm.noise
        sigma = algorithm.deviations(state.evolution)
        if sigma is None or self._device.type == "cpu":
            asked = np.empty((len(members), h.numel()), np.float32)
            for out, member in zip(asked, members, strict=True):
                algorithm.ask(state.evolution, member, out)
            return torch.from_numpy(asked).to(self._device)
        factor = sigma if isinstance(sigma, float) else torch.tensor(sigma, device=self._device)
        return perturbed(noise, h, factor, members, state.generation)

    def close(self) -> None:
        """Close the environments."""
        self._worlds.close()
