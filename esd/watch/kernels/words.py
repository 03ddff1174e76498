"""Where everything stands in the watch's memory: numbers of 64-bit words.

Times are nanoseconds of CLOCK_MONOTONIC, which is the same for all processes of a machine.
"""

from __future__ import annotations

# what this process and its watch tell each other
(
    STOP,  # not 0: the loop ends
    TICK,  # time between two looks
    HEARTBEAT,  # address of the word that is written at every look
    DEADLINE,  # of what is under way; 0: none
    ALLOWANCE,  # not 0: the deadline is put off by so much as long as another rank works
    MILLISECONDS,  # the limit, for messages
    GRACE,  # from the deadline, at which the main thread is woken, to this process's end
    WARNED,  # when it was woken; 0: it wasn't
    WARNED_OF,  # the deadline that it was woken for
    LAST_WAKE,  # when it was woken last
    THREAD,  # the main thread, as pthread_kill knows it
    WAKE_SIGNAL,  # 0: none
    DUMP_SIGNAL,  # prints the stacks of all threads; 0: none
    EXIT_CODE,  # 0: SIGKILL
    PROCESS,  # id of this process
    WHO,  # address of a text: which process this is
    WHAT,  # address of a text: what is under way
    OWN,  # address of this process's place (below)
    PEERS,  # address of a table (below); 0: none
    SILENCE,  # so long may a rank be silent
    SURVIVES,  # not 0: the others go on when a rank is killed
    VERDICT,  # not 0: a rank or a host is lost, and the job can't go on
    SCRATCH,  # two words for the clock
    _,
    TEXT,  # address of memory for a line
    VERDICT_TEXT,  # address of memory for the reason of the verdict, which begins with its length
    CLOCK_GETTIME,  # addresses of C functions
    SYSCALL,
    PTHREAD_KILL,
    PTHREAD_SELF,
    WRITE,
    EXIT,
    KILL,
    FUTEX,  # number of the system call; 0: unknown, the loop sleeps instead
    NANOSLEEP,
    CONTROL_WORDS,
) = range(36)

TEXT_BYTES = 1200  # a text is its length, a word, and its bytes, in so much memory

# A rank's place in the memory of its node: what it tells the others, a cache line or two
BEAT, GENERATION, ROW, SINCE, WAITS, RANK, PID, BORN, GONE, PLACE_WORDS = (*range(9), 16)

# A table of the other ranks of a node: how many, and for each
PLACE, SEEN, SILENT, NAME, KILLED, PEER_WORDS = range(6)
