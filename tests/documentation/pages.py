"""All Markdown files of the repository: their links, their blocks of code, and the commands in them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
# folders of what is made here and not kept
MADE = ("runs", "build", "dist", "node_modules")
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
NAMED = re.compile(r"`([\w./-]+\.\w+)`[^`]*\Z")


def markdown_files() -> list[str]:
    """Paths relative to the repository."""
    found = (path.relative_to(REPOSITORY) for path in sorted(REPOSITORY.rglob("*.md")))
    return [
        path.as_posix()
        for path in found
        if path.parts[0] not in MADE
        and not any(part[0] == "." and part != ".github" for part in path.parts[:-1])
    ]


PAGES = markdown_files()


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
        page: the page's path.
        line: where it begins.
        language: as the page says.
        text: what is in it.
        name: of the file that the reader is asked to save it as, or "".
    """

    page: str
    line: int
    language: str
    text: str
    name: str

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page, in order."""
    text = (REPOSITORY / page).read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        named = NAMED.search(before)
        asked = named and ("Save this" in before or before == f"`{named.group(1)}`:")
        found.append(
            Block(
                page,
                text[: match.start()].count("\n") + 1,
                match["language"],
                re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
                named.group(1) if named and asked else "",
            )
        )
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = ("sh", "bash", "console", "shell")


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", (REPOSITORY / page).read_text("utf-8"))


def commands(script: str, folder: Path) -> list[list[str]]:
    """The words of the commands that a shell script calls; loops and variables are the shell's own, nothing is started.

    Args:
        script: as a page shows it.
        folder: an empty one, in which it is read.
    """
    script = re.sub(r"^(\s*)[\w./-]+/([\w-]+\.sh)\b", r"\1\2", script, flags=re.MULTILINE)
    log = folder / "commands"
    log.unlink(missing_ok=True)
    # with an empty PATH bash finds no command, and gives the words of each to this function
    handler = f"command_not_found_handle() {{ printf '%s\\0' \"$@\" $'\\n' >>'{log}'; }}\n"
    subprocess.run(
        ["/bin/bash", "-c", f"{handler}{script}\nwait"],
        cwd=folder,
        env={"PATH": "/nonexistent", "HOME": str(folder), "PWD": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    if not log.exists():
        return []
    called, words = [], []
    for word in log.read_text("utf-8").split("\0"):
        if word == "\n":
            called.append(words)
            words = []
        else:
            words.append(word)
    return called


def of_esd(words: list[str]) -> list[str]:
    """What follows ``esd`` in a call that may start with mpirun, srun or docker; nothing if it is no call of esd."""
    if words[0] == "docker":  # whose image has the same name
        words = words[words.index("esd") + 1 :] if words[1:2] == ["run"] else []
    # another program may have a group of this name
    if "-m" in words and words[words.index("-m") + 1] != "esd":
        return []
    return words[words.index("esd") + 1 :] if "esd" in words else []
