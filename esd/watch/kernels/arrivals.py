"""A count in shared memory that processes add to and sleep on, compiled; it needs no interpreter lock meanwhile."""

from __future__ import annotations

from pathlib import Path

from esd.watch.kernels.addresses import call, read, replace, write
from esd_kernels import Compiler

_COMPILER = Compiler(Path(__file__).parent)
_FUTEX_WAIT, _FUTEX_WAKE, _EVERYBODY = 0, 1, 0x7FFFFFFF


@_COMPILER.kernel
def arrive(word, target, syscall, futex):
    """Add one to a word; the one that makes it the target wakes all that sleep on it.

    Args:
        word: its address.
        target: see above.
        syscall: address of the C function.
        futex: number of that system call; 0: there is none.
    """
    seen = read(word, 0)
    while True:
        found = replace(word, 0, seen, seen + 1)
        if found == seen:
            break
        seen = found
    if seen + 1 >= target and futex != 0:
        call(syscall, futex, word, _FUTEX_WAKE, _EVERYBODY, 0, 0)
    return seen + 1


@_COMPILER.kernel
def sleep_until(word, target, syscall, futex, nanoseconds, scratch):
    """Sleep until a word has reached a target, or for some time.

    Args:
        word: its address.
        target: that it may reach.
        syscall: address of the C function.
        futex: number of that system call.
        nanoseconds: the longest sleep, less than a second.
        scratch: address of two words.

    Returns:
        Whether it has been reached.
    """
    seen = read(word, 0)
    if seen < target:
        write(scratch, 0, 0)
        write(scratch, 1, nanoseconds)
        call(syscall, futex, word, _FUTEX_WAIT, seen & 0xFFFFFFFF, scratch, 0)
    return read(word, 0) >= target
