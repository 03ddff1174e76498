"""What ranks know of each other without a message: heartbeat, generation and row of each, in the memory of its node.

The watch of each rank (``esd.watch``) writes its own heartbeat and reads those of the others. Ranks of different nodes
send each other a few bytes over UDP now and then. Where the network doesn't pass these, nothing is known of the other
nodes, and only the deadline of a collective finds out that one is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import secrets
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd import watch
from esd.mpi.arrivals import Arrivals
from esd.mpi.comm import Communicator, gather
from esd.mpi.shared import open_together
from esd.watch.kernels import words

LINE_BYTES = 8 * words.PLACE_WORDS
MOST_ADDRESSES = 4  # of a host
NAME_BYTES = 64  # of a host's name
SIGNS_PER_SILENCE = 12  # of life, in the time that one may be silent
LONGEST_INTERVAL_SECONDS = 5.0
_SIOCGIFADDR = 0x8915
# what a rank that listens tells the others: port, addresses, name
_CARD = struct.Struct(f"<Q{MOST_ADDRESSES}Q{NAME_BYTES}s")
_CARD_WORDS = _CARD.size // 8


class Places:
    """The places of a node's ranks. Every rank of the job has to make them, and to leave them.

    Args:
        ranks: all of them.
        node: those of this machine.

    Attributes:
        arrivals: of this node's ranks at collectives; None where they share no memory.
    """

    def __init__(self, ranks: Communicator, node: Communicator) -> None:
        """Take this rank's place, and look at those of the others."""
        with contextlib.ExitStack() as opened:
            self._take(ranks, node, opened)
            self._closing = opened.pop_all()

    def _take(self, ranks: Communicator, node: Communicator, opened: contextlib.ExitStack) -> None:
        """Do so; what has to be closed in the end is left to ``opened``."""
        memory, number = _memory(node)
        shared = memoryview(memory).cast("q")
        first = words.PLACE_WORDS * (1 + number)
        own = shared[first : first + words.PLACE_WORDS]
        own[words.BEAT] = own[words.SINCE] = time.monotonic_ns()
        own[words.GENERATION] = own[words.ROW] = -1
        process = os.getpid()
        own[words.RANK], own[words.PID], own[words.BORN] = ranks.rank, process, _born(process)
        hosts = _hosts(ranks, node, opened)
        gather(node, 1, "meeting the ranks of this machine")  # all places are taken
        together = len(memory) > 2 * LINE_BYTES
        self.arrivals = Arrivals(_address(shared), node.size) if together else None
        self._watched = watch.WATCH.is_mine
        if self._watched:
            host = socket.gethostname()
            watch.WATCH.name(f"rank {ranks.rank} (process {process} on {host})")
            peers = _peers(shared, node, host, opened) if together else 0
            watch.WATCH.join(
                own, _address(own), peers, hosts, ranks.silence_seconds, ranks.survives
            )

    def leave(self) -> None:
        """Nobody looks at this rank any more."""
        if self._watched:
            watch.WATCH.leave()
        self.close()

    def close(self) -> None:
        """Let go of what was needed to look at the others, when that is done from other places."""
        self._closing.close()


_memories: list[object] = []  # what the watch may read for as long as this process lives; a few kB


def _peers(shared: memoryview, node: Communicator, host: str, opened: contextlib.ExitStack) -> int:
    """The address of the table of the other ranks of this node."""
    others = [number for number in range(node.size) if number != node.rank]
    table = np.zeros(1 + len(others) * words.PEER_WORDS, np.int64)
    table[0] = len(others)
    for i, number in enumerate(others):
        first = words.PLACE_WORDS * (1 + number)
        place = shared[first : first + words.PLACE_WORDS]
        process = place[words.PID]
        peer = table[1 + i * words.PEER_WORDS :]
        peer[words.PLACE] = _address(place)
        peer[words.NAME] = _text(f"rank {place[words.RANK]} (process {process} on {host})")
        peer[words.PIDFD] = descriptor = _descriptor_of(process, place[words.BORN])
        if descriptor >= 0:
            opened.callback(_close, descriptor)
    return _kept(table)


def _hosts(ranks: Communicator, node: Communicator, opened: contextlib.ExitStack) -> int:
    """The address of the table of the other hosts; 0 without any."""
    listener = int(gather(node, ranks.rank, "naming who listens")[0])
    listeners = np.unique(gather(ranks, listener, "naming who listens"))
    if listeners.size == 1:
        return 0
    channel = _channel()
    if channel is not None:
        opened.callback(channel.close)
    cards = np.zeros(1 + listeners.size * _CARD_WORDS, np.uint64)
    if ranks.rank == 0:
        cards[0] = secrets.randbits(63)
    own = int(np.searchsorted(listeners, listener))
    if node.rank == 0:
        cards[1 + own * _CARD_WORDS :][:_CARD_WORDS] = np.frombuffer(_card(channel), np.uint64)
    ranks.sum(cards, "naming the hosts")
    if channel is None:
        return 0
    table = np.zeros(words.HOST_TABLE_WORDS + listeners.size * words.HOST_WORDS, np.int64)
    packet = np.array([int(cards[0]), own, 0], np.int64)
    addresses = b""
    for number in range(listeners.size):
        card = cards[1 + number * _CARD_WORDS :][:_CARD_WORDS].tobytes()
        port, *found, name = _CARD.unpack(card)
        host = table[words.HOST_TABLE_WORDS + number * words.HOST_WORDS :]
        host[words.HOST_NAME] = _text(name.rstrip(b"\0").decode("utf-8", "replace"))
        if number != own:
            for address in filter(None, found):
                addresses += struct.pack("=HHI8x", socket.AF_INET, socket.htons(port), address)
    interval = min(LONGEST_INTERVAL_SECONDS, ranks.silence_seconds / SIGNS_PER_SILENCE)
    table[words.HOST_COUNT], table[words.SOCKET] = listeners.size, channel.fileno()
    table[words.INTERVAL] = int(interval * 1e9)
    table[words.JUDGES] = node.rank == 0
    table[words.PACKET] = _kept(packet)
    table[words.ADDRESSES] = _kept(np.frombuffer(addresses, np.uint8).copy())
    table[words.ADDRESS_COUNT] = len(addresses) // words.ADDRESS_BYTES
    return _kept(table)


def _kept(array: npt.NDArray[Any]) -> int:
    """The address of an array, which stays there."""
    _memories.append(array)
    return int(array.ctypes.data)


def _text(text: str) -> int:
    """The address of a text."""
    encoded = text.encode("utf-8", "replace")
    return _kept(np.frombuffer(struct.pack("=q", len(encoded)) + encoded, np.uint8).copy())


def _address(memory: memoryview) -> int:
    """Of memory that stays there."""
    holder = ctypes.c_char.from_buffer(memory.cast("B"))
    _memories.append(holder)
    return ctypes.addressof(holder)


def _memory(node: Communicator) -> tuple[mmap.mmap, int]:
    """Memory for the places of a node's ranks, and the number of this one's; where they can't share it, of its own."""
    size = (1 + node.size) * LINE_BYTES
    memory = None
    descriptor = open_together(node, size) if node.size > 1 else None
    if descriptor is not None:
        with contextlib.suppress(OSError):
            memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
    if gather(node, int(memory is not None), "mapping the places").all() and memory is not None:
        return memory, node.rank
    return mmap.mmap(-1, 2 * LINE_BYTES), 0


def _born(process: int) -> int:
    """When a process was started, in ticks since the machine was; -1 if it isn't there."""
    try:
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1


def _descriptor_of(process: int, born: int) -> int:
    """A descriptor by which a process can be killed, and no other; -1 if it isn't seen from here."""
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        descriptor = os.pidfd_open(process)
    except OSError:
        return -1
    if _born(process) == born:
        return descriptor
    os.close(
        descriptor
    )  # it is in another namespace, and this is the number of another process here
    return -1


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a user's code may have done it
        os.close(descriptor)


def _channel() -> socket.socket | None:
    """A socket for signs of life; None if that isn't possible."""
    try:
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.bind(("0.0.0.0", 0))
    except OSError:
        return None
    return channel


def _card(channel: socket.socket | None) -> bytes:
    """What the others need to know of this host."""
    port = 0 if channel is None else channel.getsockname()[1]
    found = _addresses(channel) if channel is not None else []
    name = socket.gethostname().encode()[:NAME_BYTES]
    return _CARD.pack(port, *(found + [0] * MOST_ADDRESSES)[:MOST_ADDRESSES], name)


def _addresses(channel: socket.socket) -> list[int]:
    """The IPv4 addresses of this host, as a socket's address holds them, but for those of itself alone."""
    found = []
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError):
            asked = struct.pack("256s", name.encode()[:15])
            packed = fcntl.ioctl(channel.fileno(), _SIOCGIFADDR, asked)[20:24]
            if packed[0] != 127:
                found.append(int.from_bytes(packed, sys.byteorder))
    return found
