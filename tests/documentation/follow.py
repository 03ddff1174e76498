"""Follow pages in a process of its own: save their files, run their commands and examples, one after the other.

    python -m tests.documentation.follow FOLDER

reads pages as JSON from stdin and writes what became of each step as JSON. Every step is a fork of this process, which
has imported esd already: a page of ten commands then takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

SECONDS = 60


def run(step: dict[str, Any], folder: Path) -> None:
    """One step, in the forked process."""
    sys.path.insert(0, str(folder))
    if "python" in step:
        exec(compile(step["python"], step["where"], "exec"), {"__name__": "__main__"})
    else:
        from esd.__main__ import main

        sys.argv = ["esd", *step["esd"]]
        main()


def follow(step: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fork, run a step, and say what became of it."""
    if "file" in step:
        (folder / step["file"]).write_text(step["text"])
        return {**step, "code": 0, "output": ""}
    output = folder / "output"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(written, 1)
            os.dup2(written, 2)
            run(step, folder)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else bool(end.code)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    text = output.read_text(errors="replace")
    return {**step, "code": os.waitstatus_to_exitcode(status), "output": text}


def main(folder: Path) -> None:
    """Follow each page until one of its steps fails."""
    import gymnasium  # noqa: F401

    import esd.cli
    import esd.commands.eval
    import esd.training.loop
    import esd.training.prepare  # noqa: F401

    done: dict[str, list[dict[str, Any]]] = {}
    for page, steps in json.load(sys.stdin).items():
        place = folder / page.replace("/", "-").removesuffix(".md")
        place.mkdir()
        done[page] = []
        for step in steps:
            done[page].append(follow(step, place))
            if done[page][-1]["code"] != 0:
                break
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
