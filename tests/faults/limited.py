"""``esd`` under a limit of the operating system: ``python -m tests.faults.limited NAME NUMBER words of esd…``.

NAME is that of ``resource.RLIMIT_NAME``.
"""

from __future__ import annotations

import resource
import runpy
import sys

if __name__ == "__main__":
    name, number = sys.argv[1], int(sys.argv[2])
    limit = getattr(resource, f"RLIMIT_{name}")
    resource.setrlimit(limit, (number, number))
    sys.argv = ["esd", *sys.argv[3:]]
    runpy.run_module("esd", run_name="__main__")
