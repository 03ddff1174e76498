"""Videos and pictures of a run, embedded in the page: those that lie in its folder, and those that the user names."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esd.errors import UsageError
from esd.evaluation.video_facts import facts_of, size_of
from esd.reading import MB, read_bytes
from esd.report import html
from esd.report.runs import ReportedRun
from esd.run.folder import is_regular

Warn = Callable[[str], None]

MOST_BYTES = 50 * MB  # of one file; a page that is larger opens slowly
MOST_ALL = 100 * MB  # of the files that lie in runs' folders
EASILY_SEEN = 480  # pixels of the longer side, to which small pictures are enlarged
LARGEST = 800  # pixels of the longer side, to which large ones are shrunk
MOST_ENLARGED = 6.0
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


def section(runs: Sequence[ReportedRun], named: Sequence[Path], warn: Warn, hint: str = "") -> str:
    """The part of the page with videos.

    Args:
        runs: in whose folders videos may lie.
        named: files that the user names.
        warn: is called with a line about a file that is ignored.
        hint: how to get a video, where there is none; nothing leaves the part out.

    Raises:
        UsageError: if a file that the user names can't be embedded.
    """
    parts = [_embedded(path, "", follow=True) for path in named]
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
                parts.append(_embedded(path, run.name, follow=False))
            except UsageError as error:
                warn(f"{error}; skipped")
                continue
            total += size
    if parts:
        intro = "Videos in the folders of the runs, and those named with --video."
        return html.section(
            "video", "Video", f'<div class="videos"><div>\n{"".join(parts)}</div></div>\n', intro
        )
    return html.section("video", "Video", html.notes([hint])) if hint else ""


def _lying_in(run: ReportedRun) -> list[Path]:
    """The videos in a run's folder, links left out."""
    place = run.folder.place
    inside = place.iterdir() if place.is_dir() else ()  # it may be one file
    found = (path for path in inside if path.suffix.lower() in ENDINGS)
    return sorted(path for path in found if is_regular(path) and not path.name.startswith("."))


def _embedded(path: Path, run: str, follow: bool) -> str:
    """A file as HTML.

    Args:
        path: of the file.
        run: in whose folder it lies; nothing of a file that the user names.
        follow: also through a symbolic link.

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
    size = size_of(data)
    title, words = _caption(facts_of(data), run, path.name)
    parts = [*words, path.name] if words else []
    if size is not None:
        parts.append(f"{size[0]} × {size[1]} pixels")
    name = html.escaped(title)
    if kind == "image/gif":
        element = f'<img src="{source}" alt="{name}"{_shown_size(size)}>'
    else:
        element = f'<video controls preload="metadata" src="{source}" aria-label="{name}"{_shown_size(size)}></video>'
    caption = f"<h3>{name}</h3><p>{html.escaped(', '.join(parts))}</p>"
    return f'<figure class="media">{element}<figcaption>{caption}</figcaption></figure>\n'


def _shown_size(size: tuple[int, int] | None) -> str:
    """Attributes for a size that is easily seen: small pictures are enlarged, large ones shrink to the page."""
    if size is None:
        return ""
    width, height = size
    longer = max(width, height)
    factor = min(MOST_ENLARGED, max(1.0, EASILY_SEEN / longer), LARGEST / longer)
    wide, high = round(width * factor), round(height * factor)
    return f' width="{wide}" height="{high}" style="--wide: {wide}; --high: {high}"'


def _caption(facts: Mapping[str, Any], run: str, file: str) -> tuple[str, list[str]]:
    """A title and what a video says about itself, in words; each value may be of any type."""

    def text(key: str) -> str:
        value = facts.get(key)
        return value if isinstance(value, str) else ""

    def whole(key: str) -> int | None:
        value = facts.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    total, generation, seed, steps = (
        facts.get("return"), whole("generation"), whole("seed"), whole("steps"),
    )  # fmt: skip
    known = [
        f"{text('checkpoint')} checkpoint" if text("checkpoint") else "",
        "" if generation is None else f"generation {generation:,}",
        f"seed {seed}" if seed is not None else "",
        f"{text('rules')} rules" if text("rules") not in ("", "evolved") else "",
        text("settings"),
        f"return {html.fixed(total, html.alike([total]))}" if isinstance(total, float) else "",
        "" if steps is None else f"{steps:,} steps",
        "the end is not shown" if facts.get("whole") is False else "",
    ]
    name = text("run") or run
    words = [each for each in known if each]
    if not words:
        return f"{name}: {file}" if name else f"Video {file}", []
    return ", ".join(each for each in (name, text("variant")) if each), words
