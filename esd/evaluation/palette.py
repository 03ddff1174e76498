"""One palette for all frames of a .gif, so that what does not change has the same value in every frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

MOST = 256  # colors of a .gif
FIRST = 128  # colors for the first picture; the others are for what appears later
AT_ONCE = 16  # new colors of one picture
FAR = 40  # levels of 255 between a pixel and its entry, from which on it gets an entry of its own


class Palette:
    """Colors of the first picture, and then those that no entry comes near to.

    Entries are only added, so the numbers in earlier frames stay right.
    """

    def __init__(self) -> None:
        """Begin without a color."""
        self._near = np.zeros((0, 3), np.uint8)  # what pixels are compared with
        self._shown = self._near  # what is shown for them
        self._image: Any = None  # the former, as Pillow takes it; it keeps a cache

    def indexed(self, picture: Picture) -> Any:
        """A picture as numbers of entries: a Pillow image of mode "P", with a palette that isn't final yet.

        Args:
            picture: uint8 [rows, columns, 3].
        """
        if not len(self._near):
            self._begin(picture)
        numbered = self._numbered(picture)
        room = min(AT_ONCE, MOST - len(self._near))
        if room > 0:
            numbers = np.asarray(numbered)
            # of every second pixel each way: comparing all of them takes longer than all the rest
            if self._is_far(picture[::2, ::2], numbers[::2, ::2]).any():
                far = self._is_far(picture, numbers).any(axis=2)
                new = _chosen(picture[far][None], room)
                self._use(np.concatenate([self._near, new]), np.concatenate([self._shown, new]))
                numbered = self._numbered(picture)
        return numbered

    def bytes(self) -> bytes:
        """The final palette, [256 · 3]."""
        return _filled(self._shown).tobytes()

    def _begin(self, picture: Picture) -> None:
        """Take the colors of the first picture; shown are medians, so that a plain area keeps its exact color."""
        colors = _chosen(picture, FIRST)
        self._use(colors, colors.copy())
        numbers = np.asarray(self._numbered(picture))
        for number in np.unique(numbers):
            self._shown[number] = np.median(picture[numbers == number], axis=0)

    def _use(self, near: Picture, shown: Picture) -> None:
        from PIL import Image

        self._near, self._shown = near, shown
        self._image = Image.new("P", (1, 1))
        self._image.putpalette(_filled(near).tobytes())

    def _numbered(self, picture: Picture) -> Any:
        from PIL import Image

        dither = Image.Dither.NONE
        return Image.fromarray(picture).quantize(palette=self._image, dither=dither)

    def _is_far(self, picture: Picture, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Of each channel, bool [rows, columns, 3]."""
        shown = _filled(self._shown)[numbers]
        found: npt.NDArray[np.bool_] = np.maximum(shown, picture) - np.minimum(shown, picture) > FAR
        return found


def _chosen(picture: Picture, most: int) -> Picture:
    """At most so many colors that stand for those of a picture, uint8 [n, 3]."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    found = image.quantize(most, method=Image.Quantize.MEDIANCUT)
    colors = np.array(found.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return colors[: int(np.asarray(found).max()) + 1]


def _filled(colors: Picture) -> Picture:
    """As many as a .gif has; the first one again in places that are free, uint8 [256, 3]."""
    return np.concatenate([colors, np.repeat(colors[:1], MOST - len(colors), axis=0)])
