"""What a video file says about itself: which run, checkpoint and episode it shows, within the file.

The facts are one line of JSON: the comment of a .gif, a box of its own at the end of an .mp4, which players pass over.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from esd.errors import shortened
from esd.reading import parse_json
from esd.run.files import json_text

MARK = "esd-video-1 "
MOST_CHARACTERS = 4_000  # of the line
LONGEST_TEXT = 200  # characters of a value
MOST_PIXELS = 16_384  # of a side
BOX = b"uuid"
OWN_BOX = b"esd-video-facts\0"  # the 16 bytes that name a box of one's own


def line_of(facts: Mapping[str, Any]) -> str:
    """Facts as a line of ASCII."""
    own = {key: shortened(v, LONGEST_TEXT) if isinstance(v, str) else v for key, v in facts.items()}
    return MARK + json.dumps(json.loads(json_text(own)))  # ASCII, NaN is null


def box_of(line: str) -> bytes:
    """A line as what is appended to an .mp4 (ISO/IEC 14496-12: size, type, name, contents)."""
    contents = OWN_BOX + line.encode("ascii", "replace")
    return struct.pack(">I4s", 8 + len(contents), BOX) + contents


def facts_of(data: bytes) -> dict[str, Any]:
    """What a video file says about itself; nothing of one that ``esd eval`` has not written.

    Anyone may have written it, so values may be of any type.
    """
    line = _comment(data) if data[:4] == b"GIF8" else _own_box(data)
    if not line.startswith(MARK) or len(line) > MOST_CHARACTERS:
        return {}
    try:
        found = parse_json(line.removeprefix(MARK))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a .gif or .mp4 in pixels; None where they are not known."""
    if data[:4] == b"GIF8" and len(data) >= 10:
        return _plausible(*struct.unpack("<HH", data[6:10]))
    for found in re.finditer(b"tkhd", data):  # the header of a track ends with both, in 1/65,536
        start = found.end()
        version = data[start : start + 1]
        end = start + {b"\0": 84, b"\1": 96}.get(version, 0)
        if end > start and end <= len(data):
            width, height = struct.unpack(">II", data[end - 8 : end])
            size = _plausible(width >> 16, height >> 16)
            if size is not None:
                return size
    return None


def _plausible(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if 0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS else None


def _comment(data: bytes) -> str:
    """The comment of a .gif that begins with the mark, from its blocks of at most 255 bytes."""
    found = re.search(rb"\x21\xfe.(?=" + MARK.encode() + b")", data, re.DOTALL)
    if found is None:
        return ""
    parts, place, total = [], found.end() - 1, 0
    while place < len(data) and data[place] and total <= MOST_CHARACTERS:
        parts.append(data[place + 1 : place + 1 + data[place]])
        total += data[place]
        place += 1 + data[place]
    return b"".join(parts).decode("ascii", "replace")


def _own_box(data: bytes) -> str:
    """The contents of the box that names this format."""
    place = data.rfind(BOX + OWN_BOX)
    if place < 4:
        return ""
    (size,) = struct.unpack(">I", data[place - 4 : place])
    contents = data[place + len(BOX + OWN_BOX) : place - 4 + size]
    return contents[: MOST_CHARACTERS + 1].decode("ascii", "replace")
