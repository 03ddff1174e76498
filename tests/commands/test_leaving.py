"""A command ends what a user's code has started, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

from esd.commands.leaving import descendants, end_children

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_processes_that_were_there_before_a_command_are_left_alone() -> None:
    with subprocess.Popen(SLEEP) as before:
        others = frozenset(descendants(os.getpid()))
        assert before.pid in others
        with subprocess.Popen(SLEEP) as left:
            end_children(others)
            assert left.wait(10) == -9
        assert before.poll() is None
        before.kill()
