"""``python -m esd`` is ``esd``."""

import os
import sys


def main() -> None:
    """Entry point of the console script: what can't wait for the imports of the command line comes first."""
    from esd.mpi.launch import begin_process

    begin_process()
    from esd.cli import main as run

    run()


if __name__ == "__main__":
    # ``python -m`` looks for every module in the working directory first, also for those of packages: a folder from
    # elsewhere could bring a "numpy.py". As with ``esd`` itself, it is looked at last, and only for what a run may
    # import.
    if not sys.flags.safe_path:
        try:  # noqa: SIM105  # contextlib itself might come from there
            sys.path.remove(os.getcwd())  # noqa: PTH109
        except (OSError, ValueError):  # the directory was removed
            pass
    main()
