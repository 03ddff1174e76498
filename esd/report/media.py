"""Videos and pictures of a run, embedded in the page: those that lie in its folder, and those that the user names."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from esd.errors import UsageError
from esd.reading import MB, read_bytes
from esd.report import html
from esd.report.runs import ReportedRun
from esd.run.folder import is_regular

Warn = Callable[[str], None]

MOST_BYTES = 50 * MB  # of one file; a page that is larger opens slowly
MOST_ALL = 100 * MB  # of the files that lie in runs' folders
ENDINGS = (".mp4", ".webm", ".gif")


def kind_of(data: bytes) -> str | None:
    """What a file is by its first bytes, as a MIME type; None if it is nothing that a browser plays."""
    if data[4:8] == b"ftyp":
        return "video/mp4"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return None


def section(runs: Sequence[ReportedRun], named: Sequence[Path], warn: Warn) -> str:
    """The part of the page with videos; nothing without one.

    Args:
        runs: in whose folders videos may lie.
        named: files that the user names.
        warn: is called with a line about a file that is ignored.

    Raises:
        UsageError: if a file that the user names can't be embedded.
    """
    parts = [_embedded(path, f"Video {path.name}", follow=True) for path in named]
    taken = {path.resolve() for path in named}
    total = 0
    for run in runs:
        for path in _lying_in(run):
            if path.resolve() in taken:
                continue
            size = path.lstat().st_size
            if total + size > MOST_ALL:
                warn(
                    f"{path}: skipped, because the page would become too large; use --video to embed it"
                )
                continue
            try:
                parts.append(_embedded(path, f"{run.name}: {path.name}", follow=False))
            except UsageError as error:
                warn(f"{error}; skipped")
                continue
            total += size
    return html.section("video", "Video", "".join(parts)) if parts else ""


def _lying_in(run: ReportedRun) -> list[Path]:
    """The videos in a run's folder, links left out."""
    place = run.folder.place
    inside = place.iterdir() if place.is_dir() else ()  # it may be one file
    found = (path for path in inside if path.suffix.lower() in ENDINGS)
    return sorted(path for path in found if is_regular(path) and not path.name.startswith("."))


def _embedded(path: Path, title: str, follow: bool) -> str:
    """A file as HTML.

    Raises:
        UsageError: if it can't be read, is too large, or is no video.
    """
    try:
        data = read_bytes(path, MOST_BYTES, follow=follow)
    except FileNotFoundError:
        raise UsageError(f"--video {path}: no such file") from None
    except UsageError as error:
        if f"expected at most {MOST_BYTES:,}" in str(error):
            raise UsageError(
                f"{path}: is larger than {MOST_BYTES // MB} MB, the limit for a page; record a shorter or smaller "
                "video"
            ) from None
        raise
    kind = kind_of(data)
    if kind is None:
        raise UsageError(f"{path}: not a video format for browsers; expected MP4, WebM or GIF")
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    name = html.escaped(title)
    if kind == "image/gif":
        element = f'<img src="{source}" alt="{name}">'
    else:
        element = f'<video controls preload="metadata" src="{source}" aria-label="{name}"></video>'
    return f'<figure class="media">{element}<figcaption><p>{name}</p></figcaption></figure>\n'
