"""What a watch does, compiled, in a thread of its own that never needs the interpreter's lock.

So it goes on while compiled code of the main thread holds that lock, and it stops with its process, when that is
stopped. All it knows stands in words of memory, see ``words``.
"""

from __future__ import annotations

from pathlib import Path

from numba.core import types

from esd.watch.kernels.addresses import call, read, read_byte, replace, write, write_byte
from esd.watch.kernels.words import (
    ADDRESS_BYTES,
    ADDRESS_COUNT,
    ADDRESSES,
    ALLOWANCE,
    BEAT,
    CLOCK_GETTIME,
    DEADLINE,
    DUMP_SIGNAL,
    EXIT,
    EXIT_CODE,
    FUTEX,
    GAVE_UP,
    GENERATION,
    GONE,
    GRACE,
    HEARD,
    HEARD_OF,
    HEARTBEAT,
    HOST,
    HOST_COUNT,
    HOST_NAME,
    HOST_TABLE_WORDS,
    HOST_WORDS,
    HOSTS,
    HOSTS_WORK,
    INTERVAL,
    JUDGES,
    KILL,
    LAST_WAKE,
    LEFT,
    MILLISECONDS,
    NAME,
    NANOSLEEP,
    OWN,
    PACKET,
    PACKET_WORDS,
    PEER_WORDS,
    PEERS,
    PIDFD,
    PLACE,
    POLL,
    PROCESS,
    PTHREAD_KILL,
    PTHREAD_SELF,
    QUIET,
    RECEIVED,
    RECV,
    ROW,
    SCRATCH,
    SEEN,
    SENDTO,
    SENT,
    SILENCE,
    SILENT,
    SOCKET,
    STOP,
    SURVIVES,
    SYSCALL,
    TEXT,
    TEXT_BYTES,
    THREAD,
    TICK,
    TOKEN,
    VERDICT,
    VERDICT_TEXT,
    WAITS,
    WAKE_SIGNAL,
    WARNED,
    WARNED_OF,
    WHAT,
    WHO,
    WORKS,
    WRITE,
)
from esd_kernels import Compiler

_COMPILER = Compiler(Path(__file__).parent)
_inlined = _COMPILER.inlined

_CLOCK_MONOTONIC, _FUTEX_WAIT_PRIVATE, _SIGKILL, _STDERR = 1, 128, 9, 2
_POLLIN, _PIDFD_SEND_SIGNAL, _MSG_DONTWAIT, _MOST_PACKETS = 1, 424, 0x40, 1000
_SECOND = 1_000_000_000
# A look that comes late says as little about the others as about this process, which may have been stopped with them
_LONGEST_LOOK = _SECOND
_REMINDER = _SECOND


@_inlined
def _now(control):
    """What time it is."""
    scratch = control + 8 * SCRATCH
    call(read(control, CLOCK_GETTIME), _CLOCK_MONOTONIC, scratch, 0, 0, 0, 0)
    return read(scratch, 0) * _SECOND + read(scratch, 1)


@_inlined
def _add_text(line, text):
    """Append a text to another, as far as there is room."""
    at, length = read(line, 0), read(text, 0)
    for i in range(length):
        if at < TEXT_BYTES - 16:
            write_byte(line, 8 + at, read_byte(text, 8 + i))
            at += 1
    write(line, 0, at)


@_inlined
def _add_bytes(line, letters):
    """Append letters, a tuple of their codes."""
    at = read(line, 0)
    for letter in letters:
        if at < TEXT_BYTES - 16:
            write_byte(line, 8 + at, letter)
            at += 1
    write(line, 0, at)


@_inlined
def _add_number(line, number):
    """Append a number that is not negative, in decimals."""
    power = 1
    while number // power >= 10:
        power *= 10
    at = read(line, 0)
    while power > 0 and at < TEXT_BYTES - 16:
        write_byte(line, 8 + at, 48 + (number // power) % 10)
        at += 1
        power //= 10
    write(line, 0, at)


_ESD = tuple(b"esd: ")
_COLON = tuple(b": ")
_TOOK = tuple(b" took longer than ")
_SECONDS = tuple(b" s and could not be interrupted; this process is ended")
_SILENT = tuple(b" has not run for ")
_SHORT_SECONDS = tuple(b" s")
_GENERATION = tuple(b", in generation ")
_ROW = tuple(b", row ")
_GAVE_UP = tuple(b" has given up, because a rank or a host gave no sign of life")
_HOST = tuple(b"no rank on ")
_QUIET = tuple(b" has given a sign of life for ")
_END = tuple(b"; it is killed, and the other ranks go on")
_NEWLINE, _POINT = (10,), (46,)


@_inlined
def _add_place(line, place):
    """Append generation and row of a rank, if it has any."""
    if read(place, GENERATION) >= 0:
        _add_bytes(line, _GENERATION)
        _add_number(line, read(place, GENERATION))
        if read(place, ROW) >= 0:
            _add_bytes(line, _ROW)
            _add_number(line, read(place, ROW))


@_inlined
def _print(control, line):
    _add_bytes(line, _NEWLINE)
    call(read(control, WRITE), _STDERR, line + 8, read(line, 0), 0, 0, 0)


@_inlined
def _end(control):
    """End this process: a line, the stacks, and out."""
    line = read(control, TEXT)
    write(line, 0, 0)
    _add_bytes(line, _ESD)
    _add_text(line, read(control, WHO))
    _add_bytes(line, _COLON)
    if read(control, VERDICT) != 0:
        _add_text(line, read(control, VERDICT_TEXT))
    else:
        _add_text(line, read(control, WHAT))
        _add_bytes(line, _TOOK)
        milliseconds = read(control, MILLISECONDS)
        _add_number(line, milliseconds // 1000)
        if milliseconds % 1000 >= 100:
            _add_bytes(line, _POINT)
            _add_number(line, milliseconds % 1000 // 100)
        _add_bytes(line, _SECONDS)
        _add_place(line, read(control, OWN))
    _print(control, line)
    if read(control, DUMP_SIGNAL) != 0:
        own = call(read(control, PTHREAD_SELF), 0, 0, 0, 0, 0, 0)
        call(read(control, PTHREAD_KILL), own, read(control, DUMP_SIGNAL), 0, 0, 0, 0)
    if read(control, EXIT_CODE) < 0:
        call(read(control, KILL), read(control, PROCESS), _SIGKILL, 0, 0, 0, 0)
    call(read(control, EXIT), read(control, EXIT_CODE), 0, 0, 0, 0, 0)


@_inlined
def _give_up(control):
    """End this process, by an exception if possible; the other ranks of the node do the same."""
    write(control, VERDICT, 1)
    write(read(control, OWN), GONE, GAVE_UP)


@_inlined
def _has_ended(control, descriptor):
    """Whether a process is dead, by its descriptor; it may not be waited for yet."""
    scratch = control + 8 * SCRATCH
    write(scratch, 0, descriptor | (_POLLIN << 32))
    ready = call(read(control, POLL), scratch, 1, 0, 0, 0, 0) & 0xFFFFFFFF
    return ready == 1 and (read(scratch, 0) >> 48) & _POLLIN != 0


@_inlined
def _judge_peer(control, peer, place):
    """Kill a rank that has not run for too long, if the others can go on without it; otherwise this one ends, too."""
    descriptor = read(peer, PIDFD)
    survives = read(control, SURVIVES) != 0
    if survives and descriptor >= 0 and _has_ended(control, descriptor):
        # MPI says so to whoever waits for it; but not of a process that has left by _exit
        limit = read(control, SILENCE)
        if read(read(control, OWN), WAITS) == 0:
            write(peer, SILENT, limit)
        if read(peer, SILENT) < 2 * limit:
            return
        survives = False
    survives = survives and descriptor >= 0
    line = read(control, TEXT) if survives else read(control, VERDICT_TEXT)
    write(line, 0, 0)
    if survives:
        _add_bytes(line, _ESD)
    _add_text(line, read(peer, NAME))
    _add_bytes(line, _SILENT)
    _add_number(line, read(peer, SILENT) // _SECOND)
    _add_bytes(line, _SHORT_SECONDS)
    _add_place(line, place)
    if not survives:
        _give_up(control)
    elif replace(place, GONE, 0, LEFT) == 0:  # one of the others may have done it
        _add_bytes(line, _END)
        _print(control, line)
        call(read(control, SYSCALL), _PIDFD_SEND_SIGNAL, descriptor, _SIGKILL, 0, 0, 0)


@_inlined
def _look_at_peers(control, now, step):
    """See which ranks of the node have not run for too long, and whether anyone works; gives 1 if so."""
    limit = read(control, SILENCE)
    works = 1 if now - read(read(control, OWN), HOSTS_WORK) < limit else 0
    table = read(control, PEERS)
    if table == 0:
        return works
    for i in range(read(table, 0)):
        peer = table + 8 * (1 + i * PEER_WORDS)
        place = read(peer, PLACE)
        beat = read(place, BEAT)
        if beat != read(peer, SEEN):
            write(peer, SEEN, beat)
            write(peer, SILENT, 0)
        else:
            write(peer, SILENT, read(peer, SILENT) + step)
        if now - read(place, HOSTS_WORK) < limit:
            works = 1
        gone = read(place, GONE)
        if gone == GAVE_UP and read(control, VERDICT) == 0:
            line = read(control, VERDICT_TEXT)
            write(line, 0, 0)
            _add_text(line, read(peer, NAME))
            _add_bytes(line, _GAVE_UP)
            _give_up(control)
            write(control, VERDICT, HEARD_OF)
        if gone != 0:
            continue
        if read(peer, SILENT) >= limit:
            if read(control, VERDICT) == 0:
                _judge_peer(control, peer, place)
        elif read(place, WAITS) == 0:
            works = 1
    return works


@_inlined
def _listen(control, table, hosts, now):
    """Take what ranks of other hosts have sent."""
    packet, scratch = read(table, PACKET), control + 8 * RECEIVED
    receive, socket = read(control, RECV), read(table, SOCKET)
    for _ in range(_MOST_PACKETS):
        got = call(receive, socket, scratch, 8 * PACKET_WORDS, _MSG_DONTWAIT, 0, 0)
        if got < 0:
            return
        host = read(scratch, HOST)
        known = got == 8 * PACKET_WORDS and read(scratch, TOKEN) == read(packet, TOKEN)
        if known and 0 <= host < read(table, HOST_COUNT):
            write(hosts + 8 * HOST_WORDS * host, HEARD, 1)
            write(hosts + 8 * HOST_WORDS * host, QUIET, 0)
            if read(scratch, WORKS) != 0:
                write(read(control, OWN), HOSTS_WORK, now)


@_inlined
def _look_at_hosts(control, now, step):
    """Send a sign of life to the other hosts, and see which of them have sent none for too long."""
    table = read(control, HOSTS)
    if table == 0:
        return
    packet = read(table, PACKET)
    if now - read(table, SENT) >= read(table, INTERVAL):
        write(table, SENT, now)
        send, socket = read(control, SENDTO), read(table, SOCKET)
        write(packet, WORKS, 1 if read(read(control, OWN), WAITS) == 0 else 0)
        for i in range(read(table, ADDRESS_COUNT)):
            address = read(table, ADDRESSES) + ADDRESS_BYTES * i
            size, flags = 8 * PACKET_WORDS, _MSG_DONTWAIT
            call(send, socket, packet, size, flags, address, ADDRESS_BYTES)
    if read(table, JUDGES) == 0:
        return
    hosts = table + 8 * HOST_TABLE_WORDS
    _listen(control, table, hosts, now)
    for i in range(read(table, HOST_COUNT)):
        host = hosts + 8 * HOST_WORDS * i
        if read(host, HEARD) != 0:  # or the network passes nothing of ours
            write(host, QUIET, read(host, QUIET) + step)
            if read(host, QUIET) >= read(control, SILENCE) and read(control, VERDICT) == 0:
                line = read(control, VERDICT_TEXT)
                write(line, 0, 0)
                _add_bytes(line, _HOST)
                _add_text(line, read(host, HOST_NAME))
                _add_bytes(line, _QUIET)
                _add_number(line, read(host, QUIET) // _SECOND)
                _add_bytes(line, _SHORT_SECONDS)
                _give_up(control)


@_inlined
def _wake(control, now):
    """Send the main thread a signal, whose handler raises an exception there."""
    if read(control, WAKE_SIGNAL) != 0:
        thread, signal = read(control, THREAD), read(control, WAKE_SIGNAL)
        call(read(control, PTHREAD_KILL), thread, signal, 0, 0, 0, 0)
    write(control, LAST_WAKE, now)


@_inlined
def _look_at_deadline(control, now, works):
    """Wake the main thread when its deadline has passed, and end the process if that didn't help."""
    deadline = read(control, DEADLINE)
    passed = (deadline != 0 and now >= deadline) or read(control, VERDICT) != 0
    if not passed:
        write(control, WARNED, 0)
        return
    allowance = read(control, ALLOWANCE)
    if allowance != 0 and works != 0 and read(control, VERDICT) == 0:
        replace(control, DEADLINE, deadline, now + allowance)
        return
    warned = read(control, WARNED)
    reason = deadline if read(control, VERDICT) == 0 else -1
    if warned == 0 or read(control, WARNED_OF) != reason:
        write(control, WARNED, now)
        write(control, WARNED_OF, reason)
        _wake(control, now)
    elif now - warned >= read(control, GRACE):
        if reason == -1 or read(control, DEADLINE) == deadline:  # it may just have been met
            _end(control)
    elif now - read(control, LAST_WAKE) >= _REMINDER:
        _wake(control, now)


@_inlined
def _sleep(control):
    """Wait until the next look, or until the loop is to end."""
    scratch, tick = control + 8 * SCRATCH, read(control, TICK)
    write(scratch, 0, tick // _SECOND)
    write(scratch, 1, tick % _SECOND)
    if read(control, FUTEX) != 0:
        word = control + 8 * STOP
        call(read(control, SYSCALL), read(control, FUTEX), word, _FUTEX_WAIT_PRIVATE, 0, scratch, 0)
    else:
        call(read(control, NANOSLEEP), scratch, 0, 0, 0, 0, 0)


@_COMPILER.c_function(types.int64(types.int64))
def watch(control):
    """Look again and again, until the word STOP is set.

    Args:
        control: address of the words.
    """
    last = _now(control)
    while read(control, STOP) == 0:
        now = _now(control)
        write(read(control, HEARTBEAT), 0, now)
        step = min(now - last, _LONGEST_LOOK)
        _look_at_hosts(control, now, step)
        works = _look_at_peers(control, now, step)
        _look_at_deadline(control, now, works)
        last = now
        _sleep(control)
    return 0
