"""What a process has only one of, and a user's code may change: put back wherever that code has run.

An environment, a wrapper, a policy or an optimizer runs in our process. One that calls ``os.chdir`` would move every
relative path, ``np.seterr(all="raise")`` would let our own arithmetic raise, and so on. Environment variables,
``sys.path`` and the seeds of global generators are left as they are: an environment may need its own, and nothing of
ours reads them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from esd.forks import end_child_of


@contextlib.contextmanager
def kept_process_state() -> Iterator[None]:
    """Put back the working directory, umask, numpy's error handling, and stdout and stderr at the end of the block.

    Inside of it ``os._exit`` raises in this thread of this process, as ``sys.exit`` does: with exit code 0 a launcher
    would take the run for done, and MPI doesn't tell the other ranks of a process that leaves so.
    """
    leave, own = os._exit, (os.getpid(), threading.get_ident())

    def refused(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) == own:
            raise SystemExit(f"os._exit({status})")
        leave(status)

    directory = working_directory()
    umask = os.umask(0o077)
    os.umask(umask)
    errors, stdout, stderr = np.geterr(), sys.stdout, sys.stderr
    os._exit = refused
    try:
        yield
    finally:
        end_child_of(own[0])
        os._exit = leave
        if directory is not None:
            with contextlib.suppress(OSError):  # removed meanwhile: paths of ours are absolute
                os.chdir(directory)  # without a look where we are: that costs as much
        os.umask(umask)
        np.seterr(**errors)
        sys.stdout, sys.stderr = stdout, stderr


def working_directory() -> str | None:
    """Where relative paths begin; None if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109  # a text is all that chdir needs
    except OSError:
        return None
