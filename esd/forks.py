"""A child that the user's code has forked, and that comes back to ours, would go on as a second esd on the same run.

That happens to whoever returns, raises or calls ``sys.exit`` in a child; only ``os._exit`` ends it where it is.
"""

from __future__ import annotations

import mmap
import os

_TEXT = (
    b"esd: a child process that the environment, the policy or a function has forked did not end there, and was ended; "
    b"end it with os._exit(0)\n"
)
_leave = os._exit  # which is another one while the user's code runs
_told = mmap.mmap(-1, 1)  # shared with all children


def end_child_of(process: int) -> None:
    """End this process if it is not the one that called the user's code, but was forked there.

    Args:
        process: ``os.getpid()`` before the call.
    """
    if os.getpid() == process:
        return
    if not _told[0]:  # once: there may be one child for each call
        _told[0] = 1
        os.write(2, _TEXT)
    _leave(1)
