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
    EXIT_CODE,  # -1: SIGKILL
    PROCESS,  # id of this process
    WHO,  # address of a text: which process this is
    WHAT,  # address of a text: what is under way
    OWN,  # address of this process's place (below)
    PEERS,  # address of a table (below); 0: none
    HOSTS,  # address of a table (below); 0: none
    SILENCE,  # so long may a rank be silent
    SURVIVES,  # not 0: the others go on when a rank is killed
    VERDICT,  # not 0: a rank or a host is lost, and the job cannot go on; HEARD_OF: as another rank has found out
    SCRATCH,  # two words for the clock
    _,
    RECEIVED,  # a packet of another host
    _,
    _,
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
    POLL,
    SENDTO,
    RECV,
    FUTEX,  # number of the system call; 0: unknown, the loop sleeps instead
    NANOSLEEP,
    CONTROL_WORDS,
) = range(44)

TEXT_BYTES = 1200  # a text is its length, a word, and its bytes, in so much memory

# A rank's place in the memory of its node: what it tells the others, in a cache line or two
(
    BEAT,  # when its watch ran last
    GENERATION,  # that it works on; -1: none
    ROW,  # that it works on, or the last one that it drew; -1: none
    SINCE,  # when it said so
    WAITS,  # not 0: for the others
    RANK,
    PID,
    BORN,  # when its process was started, as /proc has it
    GONE,  # LEFT: or it is dead. GAVE_UP: it knows that the job can't go on
    HOSTS_WORK,  # when another host said last that it works
) = range(10)
PLACE_WORDS = 16
LEFT, GAVE_UP = 1, 2
HEARD_OF = 2

# A table of the other ranks of a node: how many, and for each
(
    PLACE,  # its address
    SEEN,  # the last heartbeat that was another
    SILENT,  # so long ago, as far as this process was running
    NAME,  # address of a text
    PIDFD,  # a descriptor of its process; -1: it is in a container of its own, or so, and can't be killed
    PEER_WORDS,
) = range(6)

# A table of the other hosts of a job: how many, what follows here, and for each host HEARD, QUIET and HOST_NAME
(
    HOST_COUNT,
    SOCKET,  # UDP
    PACKET,  # address of what is sent: token, own host's number, whether this rank works
    SENT,  # when it was sent last
    INTERVAL,
    JUDGES,  # not 0: this rank listens, for all of its node
    ADDRESSES,  # of listening ranks, where each takes two words, as sendto wants it
    ADDRESS_COUNT,
    HOST_TABLE_WORDS,
) = range(9)
HEARD, QUIET, HOST_NAME, HOST_WORDS = range(4)
TOKEN, HOST, WORKS, PACKET_WORDS = range(4)
ADDRESS_BYTES = 16
