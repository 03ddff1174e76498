"""Ranks that are threads of this process, and die exactly where a test says: what MPI with ULFM promises, and no more.

When a rank of a group is dead, a collective of the group fails on some of the others and succeeds on the rest, as dice
fall; ``recover`` gives those that are left new numbers in the old order; ``agree`` gives the same answer on all.
"""

from __future__ import annotations

import contextlib
import faulthandler
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from esd.mpi.comm import RankLostError, Uint64s

HANG_SECONDS = 60.0


class KilledError(BaseException):
    """This rank dies here."""


@dataclass(eq=False)
class Group:
    """Some ranks that talk with each other, by their numbers in the world."""

    members: tuple[int, ...]
    revoked: bool = False
    shown: dict[tuple[str, int], dict[int, Any]] = field(default_factory=dict)
    answers: dict[tuple[str, int], Any] = field(default_factory=dict)


class World:
    """All ranks of a test.

    Args:
        size: how many.
        nodes: how many machines they are on.
        deaths: of a rank, the number of its collective in which it dies (from 0), and whether after its part of it.
        seed: of the dice.
        fails: how likely a collective fails on a rank although all have done their part of it, once one is dead.
    """

    def __init__(
        self,
        size: int,
        nodes: int,
        deaths: dict[int, tuple[int, bool]],
        seed: int = 0,
        fails: float = 0.5,
    ) -> None:
        """Nothing is running yet."""
        self.fails = fails
        self.size, self.nodes, self.deaths = size, nodes, deaths
        self.changed = threading.Condition()
        self.dead: set[int] = set()
        self.collectives = [0] * size  # that a rank has begun
        self.dice = random.Random(seed)

    def run(self, body: Callable[[ThreadRanks], Any]) -> list[Any]:
        """Carry out a body on every rank; what each returned or raised, by rank."""
        group = Group(tuple(range(self.size)))
        outcomes: list[Any] = [None] * self.size

        def on_rank(rank: int) -> None:
            comm = ThreadRanks(self, group, rank)
            try:
                try:
                    outcomes[rank] = body(comm)
                except BaseException as error:
                    outcomes[rank] = error
                if not isinstance(outcomes[rank], KilledError):
                    comm.close(0)
            finally:
                with self.changed:  # who has left is gone for the others
                    self.dead.add(rank)
                    self.changed.notify_all()

        threads = [
            threading.Thread(target=on_rank, args=(r,), name=f"rank {r}", daemon=True)
            for r in range(self.size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_SECONDS)
            if thread.is_alive():
                faulthandler.dump_traceback()
            assert not thread.is_alive(), f"{thread.name} hangs, with {self.deaths} and {outcomes}"
        return outcomes


class ThreadRanks:
    """A communicator; see ``esd.mpi.comm.Communicator``."""

    survives = True
    deadline_seconds = silence_seconds = HANG_SECONDS
    arrivals = None

    def __init__(self, world: World, group: Group, own: int) -> None:
        """One rank's view of a group."""
        self._world, self._group, self._own = world, group, own
        self._count = self._agreed = 0
        self._parted = False
        self.rank, self.size = group.members.index(own), len(group.members)

    def sum(self, numbers: Uint64s, what: str) -> None:
        """See ``Communicator.sum``."""
        shown = self._exchange(numbers.copy(), what)
        numbers[...] = np.sum([shown[m] for m in self._group.members], axis=0, dtype=np.uint64)

    def broadcast(self, text: bytes, what: str) -> bytes:
        """See ``Communicator.broadcast``."""
        sent: bytes = self._exchange(text, what)[self._group.members[0]]
        return sent

    @contextlib.contextmanager
    def node(self) -> Iterator[ThreadRanks]:
        """See ``Communicator.node``."""
        made, loss = {}, None
        try:
            made = self._exchange(Group(self._of_node()), "finding the node's ranks")
        except RankLostError as error:
            loss = error
        if not self.agree(loss is None):
            raise RankLostError("finding the node's ranks")
        yield ThreadRanks(self._world, made[self._of_node()[0]], self._own)

    def _of_node(self) -> tuple[int, ...]:
        nodes = self._world.nodes
        return tuple(m for m in self._group.members if m % nodes == self._own % nodes)

    def _exchange(self, shown: Any, what: str) -> dict[int, Any]:
        """Show something to the others of the group and see what they show."""
        world, group = self._world, self._group
        key, self._count = ("exchange", self._count), self._count + 1
        number, after = world.deaths.get(self._own, (-1, False))
        with world.changed:
            dies = world.collectives[self._own] == number
            world.collectives[self._own] += 1
            if dies and not after:
                self._die()
            parts = group.shown.setdefault(key, {})
            parts[self._own] = shown
            world.changed.notify_all()
            if dies:
                self._die()
            end = time.monotonic() + HANG_SECONDS
            while True:
                whole = len(parts) == len(group.members)
                broken = group.revoked or any(m in world.dead for m in group.members)
                if whole and (not broken or world.dice.random() >= world.fails):
                    return parts
                if broken:
                    raise RankLostError(what)
                assert world.changed.wait(max(0.0, end - time.monotonic())), f"hangs in {what}"

    def _die(self) -> None:
        self._world.dead.add(self._own)
        self._world.changed.notify_all()
        raise KilledError

    def revoke(self) -> None:
        """See ``Communicator.revoke``."""
        with self._world.changed:
            self._group.revoked = True
            self._world.changed.notify_all()

    def recover(self) -> None:
        """See ``Communicator.recover``."""
        self.revoke()
        if not self._parted:
            self.agree(False)
        self._parted = False
        self._group = self._meet("shrink", True, lambda parts: Group(tuple(sorted(parts))))
        self._count = self._agreed = 0
        self.rank, self.size = self._group.members.index(self._own), len(self._group.members)

    def agree(self, good: bool) -> bool:
        """See ``Communicator.agree``."""
        members = self._group.members

        def answer(parts: dict[int, bool]) -> bool:
            return all(parts.values()) and len(parts) == len(members)

        agreed: bool = self._meet("agree", good, answer)
        self._parted = not agreed
        return agreed

    def _meet(self, kind: str, shown: Any, answer: Callable[[dict[int, Any]], Any]) -> Any:
        """Wait for all of the group that live; the first that sees them gives the answer for all."""
        world, group = self._world, self._group
        key = (kind, self._agreed)
        self._agreed += 1
        with world.changed:
            parts = group.shown.setdefault(key, {})
            parts[self._own] = shown
            world.changed.notify_all()
            end = time.monotonic() + HANG_SECONDS
            while key not in group.answers:
                if all(m in parts or m in world.dead for m in group.members):
                    group.answers[key] = answer(
                        {m: p for m, p in parts.items() if m not in world.dead}
                    )
                    world.changed.notify_all()
                    break
                assert world.changed.wait(max(0.0, end - time.monotonic())), f"hangs in {kind}"
            return group.answers[key]

    def abort(self, exit_code: int) -> None:
        """See ``Communicator.abort``."""
        raise SystemExit(exit_code)

    def close(self, exit_code: int) -> None:
        """See ``Communicator.close``."""
        self.agree(True)
