"""The formats of ``esd export``, one line each; what writes one is imported only when it is used."""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esd.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from esd.export.subject import Subject


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: of its files.
        text: what reads it, in words.
        module: of esd, whose ``write(path, subject, warn)`` writes it.
        mark: what every file of ours has in it; none in those that are read back, which are looked at as runs.
    """

    suffix: str
    text: str
    module: str
    mark: bytes = b""

    def wrote(self, path: Path) -> bool:
        """Whether a file was written by this format, so that another one may replace it."""
        try:
            if not path.is_file() or not path.stat().st_size:
                return False
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                return m.find(self.mark) >= 0
        except OSError:
            return False

    def writer(self) -> Callable[[Path, Subject, Callable[[str], None]], None]:
        """What writes it."""
        write: Callable[[Path, Subject, Callable[[str], None]], None]
        write = importlib.import_module(self.module).write
        return write


FORMATS = {
    "safetensors": Format(
        ".safetensors", "esd and any program that reads safetensors", "esd.export.one_file"
    ),
    "seed": Format(".seed", "esd, which rebuilds h from these kilobytes", "esd.export.seed"),
    "mat": Format(".mat", "MATLAB, GNU Octave and SciPy", "esd.export.matlab", b"esd export"),
    "onnx": Format(
        ".onnx", "ONNX Runtime: one step of the policy", "esd.export.onnx_graph", b"h_sha256"
    ),
    "torch": Format(
        ".pt2",
        "PyTorch, without esd: one step of the policy",
        "esd.export.torch_program",
        b"esd.json",
    ),
}
DEFAULT = "safetensors"


def choose(name: str | None, out: Path | None) -> tuple[Format, str]:
    """The format that is asked for by its name, or else by the suffix of the file.

    Returns:
        The format and its name.

    Raises:
        UsageError: if there is no such format, or the suffix is another one's.
    """
    by_suffix = {format.suffix: known for known, format in FORMATS.items()}
    if name is None:
        name = DEFAULT if out is None else by_suffix.get(out.suffix)
        if name is None:
            raise UsageError(
                f"--out {out}: no format has the suffix {shown(out.suffix if out else '')}; add --format, or use one "
                f"of {', '.join(by_suffix)}"
            )
    if name not in FORMATS:
        raise UsageError(f"--format {shown(name)}: no such format, {nearest(name, list(FORMATS))}")
    return FORMATS[name], name
