"""Pictures to a .gif or .mp4 file: captioned, as many as fit the time, and written whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import io
import secrets
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from esd.errors import EsdError, MissingPackageError, NotWritableError, RunError, UsageError
from esd.errors import shortened as in_short
from esd.evaluation.palette import Palette
from esd.evaluation.video_facts import box_of, line_of
from esd.mpi.memory import available_memory
from esd.run.files import write_atomically

Picture = npt.NDArray[np.uint8]

CAPTION_SHARE = 0.07  # of a picture's height
SMALLEST_CAPTION = 12  # pixels


class Writer(Protocol):
    """What makes a file of pictures."""

    def add(self, picture: Picture) -> None:
        """Take the next one, uint8 [rows, columns, 3]."""

    def finish(self, about: str) -> None:
        """Write the file.

        Args:
            about: a line of ASCII about it, which is stored within.

        Raises:
            RunError: if it can't be written.
        """

    def close(self) -> None:
        """Give everything up that is left."""


class Format(NamedTuple):
    """A format of videos.

    Attributes:
        fastest: frames per second that players keep to.
        make: makes its writer, of a path and the frames per second.
    """

    fastest: float
    make: Callable[[Path, float], Writer]


def writer_for(path: Path) -> Format:
    """What writes a video of this name.

    Raises:
        UsageError: if it is neither .mp4 nor .gif; ``MissingPackageError`` if a package is missing.
    """
    formats = {".gif": Format(25.0, Gif), ".mp4": Format(60.0, Mp4)}
    if path.suffix.lower() not in formats:
        raise UsageError(f"--video {path}: expected a file name that ends with .mp4 or .gif")
    needed = ["PIL"] if path.suffix.lower() == ".gif" else ["PIL", "imageio_ffmpeg"]
    for module in needed:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingPackageError(f"--video {path}", module) from error
    return formats[path.suffix.lower()]


class Film:
    """The pictures of an episode on their way into a file.

    Attributes:
        rate: frames per second of the file: the environment's, or a whole part of it.
        frames: pictures so far.
        size: their width and height.
        whole: whether no picture was left out at the end.
        problem: what went wrong with a picture; the episode ends with it.
    """

    def __init__(
        self, format: Format, path: Path, rate: float, seconds: float, caption: str
    ) -> None:
        """Begin.

        Args:
            format: of the file.
            path: of the file.
            rate: steps of the environment per second.
            seconds: the longest that the video may be.
            caption: what is shown, such as the body's name.
        """
        self._every = max(1, -(-int(np.ceil(rate)) // int(format.fastest)))
        self.rate = rate / self._every
        self._most = max(1, int(seconds * self.rate))
        self._writer, self._caption = format.make(path, self.rate), caption
        self.frames, self.size, self.whole = 0, (0, 0), True
        self.problem: EsdError | None = None

    def take(self, render: Callable[[], Any], total: float, steps: int) -> None:
        """Add a picture after a step, if it is one that is shown."""
        if steps % self._every:
            return
        if self.frames >= self._most:
            self.whole = False
            return
        picture = render()
        try:
            if wrong := what_is_wrong(picture, self.size):
                raise UsageError(f"--video: step {steps}: {wrong}")
            self.size = picture.shape[1], picture.shape[0]
            text = f"return {total:.1f}    step {steps}    {self._caption}"
            self._writer.add(captioned(picture, text))
        except EsdError as error:
            self.problem = error
            raise
        self.frames += 1

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the file, with what it shows (see ``video_facts``)."""
        self._writer.finish(line_of(facts))

    def close(self) -> None:
        """Give up what is not written."""
        self._writer.close()


def what_is_wrong(picture: Any, size: tuple[int, int] = (0, 0)) -> str:
    """Why something can't be a picture of a video; nothing if it can.

    Args:
        picture: what an environment has rendered.
        size: width and height of the pictures before it; (0, 0) before the first one.
    """
    if not isinstance(picture, np.ndarray):
        found = "None" if picture is None else type(picture).__name__
    elif (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or 0 in picture.shape
    ):
        found = f"a {picture.dtype} array of shape {list(picture.shape)}"
    elif size not in ((0, 0), (picture.shape[1], picture.shape[0])):
        before = f"{size[0]} × {size[1]} pixels before"
        return f"render() returned {picture.shape[1]} × {picture.shape[0]} pixels, and {before}; keep one size"
    else:
        return ""
    return f"render() returned {found}, expected a uint8 array [rows, columns, 3]"


def captioned(picture: Picture, text: str) -> Picture:
    """A picture with a line of text at its top left, white on a dark strip."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    size = max(SMALLEST_CAPTION, round(CAPTION_SHARE * 0.7 * height))
    image = Image.fromarray(picture)
    drawing = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    while drawing.textlength(text, font) > width - size and size > 6:
        size -= 1
        font = ImageFont.load_default(size)
    drawing.rectangle((0, 0, width, round(1.6 * size)), fill=(20, 20, 24))
    drawing.text((size // 2, round(0.2 * size)), text, fill=(255, 255, 255), font=font)
    return np.asarray(image)


class Gif:
    """A .gif of at most 256 colors, by Pillow; it is written at the end, so its pictures are in memory until then."""

    def __init__(self, path: Path, rate: float) -> None:
        """Begin."""
        self._path, self._rate = path, rate
        self._images: list[Any] = []
        self._palette = Palette()

    def add(self, picture: Picture) -> None:
        """See ``Writer``."""
        if len(self._images) % 50 == 0 and 100 * picture.size > available_memory():
            raise RunError(
                f"--video {self._path}: not enough memory for more frames; use a smaller --video-seconds, or an "
                ".mp4 file"
            )
        self._images.append(self._palette.indexed(picture))

    def finish(self, about: str) -> None:
        """See ``Writer``."""
        file, palette = io.BytesIO(), self._palette.bytes()
        for image in self._images:
            image.putpalette(palette)
        first, *rest = self._images
        # in hundredths of a second, rounded so that they add to the whole time
        ends = [round(100.0 * (n + 1) / self._rate) for n in range(len(self._images))]
        durations = [10 * (b - a) for a, b in zip([0, *ends], ends, strict=False)]
        first.save(
            file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False,
            comment=about.encode("ascii", "replace"),
        )  # fmt: skip
        write_atomically(self._path, file.getvalue())

    def close(self) -> None:
        """See ``Writer``."""
        self._images.clear()


class Mp4:
    """An H.264 .mp4 that every browser plays, by the ffmpeg that imageio-ffmpeg brings."""

    def __init__(self, path: Path, rate: float) -> None:
        """Begin."""
        self._path, self._rate = path, rate
        # ffmpeg writes itself, so to a file beside it that is renamed at the end
        self._partial = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp.mp4")
        self._pipe: Generator[None, bytes | None, None] | None = None

    def add(self, picture: Picture) -> None:
        """See ``Writer``."""
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]  # as H.264 wants
        try:
            if self._pipe is None:
                self._pipe = _pipe(self._partial, even, self._rate)
                self._pipe.send(None)
            self._pipe.send(np.ascontiguousarray(even).tobytes())
        except (OSError, RuntimeError) as error:
            raise RunError(f"{self._path}: ffmpeg failed ({in_short(str(error), 200)})") from error

    def finish(self, about: str) -> None:
        """See ``Writer``."""
        try:
            if self._pipe is not None:
                self._pipe.close()
                self._pipe = None
            with self._partial.open("ab") as file:
                file.write(box_of(about))
            self._partial.replace(self._path)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or in_short(str(error), 200)
            raise NotWritableError(
                f"{self._path}: can't be written ({reason})", "the old file is unchanged"
            ) from error

    def close(self) -> None:
        """See ``Writer``."""
        if self._pipe is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._pipe.close()
            self._pipe = None
        with contextlib.suppress(OSError):
            self._partial.unlink()


def _pipe(path: Path, picture: Picture, rate: float) -> Generator[None, bytes | None, None]:
    import imageio_ffmpeg

    size = picture.shape[1], picture.shape[0]
    pipe: Generator[None, bytes | None, None] = imageio_ffmpeg.write_frames(
        str(path), size, fps=rate, codec="libx264", quality=6, macro_block_size=2, ffmpeg_log_level="error",
        ffmpeg_timeout=60.0,
    )  # fmt: skip
    return pipe
