"""Many members in lock-step: each slot holds one row, and all slots' networks take a step together.

The environments stay on the CPU, one per slot, stepped in turn: Gymnasium's vector environments reset and seed theirs
by index, ours are seeded by (generation, member, episode) (law 1), and a slot is refilled as soon as its row is done.

Environments that are interleaved would share Python's and numpy's global generators. Saving and restoring those around
every step was measured at 160 µs, many times a CartPole step, so an environment that touches them is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from esd.episodes.environments import Environments, Episodes, Outcome, global_generators
from esd.episodes.evaluator import Rows, Task, blaming
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.lockstep.noise import perturbed
from esd.lockstep.policies import BatchPolicy, make_batch_policy

Keep = Callable[[Task, Outcome, npt.NDArray[np.float64] | None], None]


@dataclass(frozen=True)
class _Running:
    """What a slot is playing."""

    task: Task
    episodes: Episodes


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
        torch.backends.cudnn.deterministic = True
        config = self._config = rollout.config
        self._rollout, self._ranks, self._device = rollout, ranks, device
        self._rows = Rows(rollout, algorithm)
        self._slots = config.batch_members
        interface = rollout.interface
        self._policy: BatchPolicy = make_batch_policy(config, rollout.policy, interface, device)
        self.same_bits = self._policy.same_bits
        self._environments: dict[int, Environments] = {}  # a slot's is made when it is first needed
        self._observations = np.zeros((self._slots, interface.observation_size), np.float32)

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
        room = min(room, self._slots)
        h = torch.tensor(state.h, device=self._device)
        for environments in self._environments.values():
            environments.use_statistics(state.observations)
        generators = global_generators()
        running: dict[int, _Running] = {}
        waiting: list[Task] = []
        while True:
            while len(running) + len(waiting) < room:
                task = next(tasks, None)
                if task is None:
                    room = 0
                else:
                    waiting.append(task)
            starting = self._placed(waiting, running)
            self._load(state, h, starting)
            for slot, task in starting.items():
                self._begin(state, slot, task, running, keep, limit)
            if not running:
                if room or waiting:
                    continue
                break
            outputs = self._policy.act(self._observations)
            for slot, now in list(running.items()):
                try:
                    self._observations[slot] = now.episodes.send(outputs[slot])
                except StopIteration as end:
                    self._ended(slot, running, end.value, keep)
                except Exception as error:
                    with blaming(state, now.task):
                        raise error from error.__cause__
        if global_generators() != generators:
            raise UsageError(
                f"env.id = {self._config.env.id!r}: draws from Python's or numpy's global random generator, which "
                "episodes in lock-step would share, so that no result could be reproduced. Let it draw from "
                'self.np_random, or take device = "cpu" and batch_members = 0'
            )

    def _placed(self, waiting: list[Task], running: dict[int, _Running]) -> dict[int, Task]:
        """Take what can start now out of ``waiting``, by slot.

        A row's slot is its number modulo the slots. If bits may depend on the slot, it waits until that one is free;
        they are then still a function of the row alone (law 1).
        """
        if not waiting:
            return {}
        free = [slot for slot in range(self._slots) if slot not in running]
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
        """Members' h + Δh, float32 [members, |h|]: made on the device where each ε is only multiplied by something."""
        algorithm, noise = self._rows.algorithm, self._rows.algorithm.noise
        sigma = algorithm.deviations(state.evolution)
        if sigma is None:
            asked = np.empty((len(members), h.numel()), np.float32)
            for out, member in zip(asked, members, strict=True):
                algorithm.ask(state.evolution, member, out)
            return torch.tensor(asked, device=self._device)
        factor = sigma if isinstance(sigma, float) else torch.tensor(sigma, device=self._device)
        return perturbed(noise, h, factor, members, state.generation)

    def _begin(
        self,
        state: RunState,
        slot: int,
        task: Task,
        running: dict[int, _Running],
        keep: Keep,
        limit: int | None,
    ) -> None:
        """Reset a slot's environment and network, and take its first observation."""
        if slot not in self._environments:
            environments = Environments(self._config.env, self._config.format)
            environments.outputs_are_squashed(self._rollout.policy.squashed)
            environments.use_statistics(state.observations)
            self._environments[slot] = environments

        def begin(seeds: EpisodeSeeds) -> None:
            self._policy.reset(slot, seeds.policy)

        episodes = self._environments[slot].play(task.seeds, begin, limit)
        running[slot] = _Running(task, episodes)
        with blaming(state, task):
            try:
                self._observations[slot] = next(episodes)
            except StopIteration as end:  # its first observation was none that a network could see
                self._ended(slot, running, end.value, keep)

    def _ended(self, slot: int, running: dict[int, _Running], outcome: Outcome, keep: Keep) -> None:
        """A slot's episodes are over."""
        task = running.pop(slot).task
        keep(task, outcome, self._environments[slot].observed(outcome))

    def close(self) -> None:
        """Close the environments."""
        for environments in self._environments.values():
            environments.close()
