"""Reading photos: opening, orientation, and the shrunk copies that are held of them.

A copy is as large as random crops need: both sides are at least 8/7 of the network's input where
the photo has the pixels (256 px for 224), and no photo is enlarged.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape, to_grey_or_rgb
from hwnas.data.photos.kinds import HEAD_BYTES, kind_of, special_kind, unidentified_kind
from hwnas.errors import InvalidFile, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
"""The EXIF tag of a photo's orientation; 5 to 8 exchange width and height."""

TIFF_SIZE = 256, 257
"""Tags of the width and height that a TIFF file stores."""

MAX_PIXELS = 178_956_970
"""Most pixels of a photo, the limit of Pillow: larger ones count as decompression bombs."""

READING_VERSION = 3
"""Version of the reader. It increases when the same file gives other pixels; caches of older
versions are discarded."""

PILLOW = r"PIL\."
PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(PILLOW), 0)
"""The filter that `warnings.filterwarnings` makes for Pillow's modules."""

ReadRows = Callable[[int, int], Any]
"""Returns the pixels of the rows from one to below another: a buffer of ``[n, W, C]``."""


@contextmanager
def opened(file: Path | IO[bytes], name: str) -> Iterator[Image]:
    """Open an image; any exception of its decoder becomes an `InvalidFile` with ``name``."""
    from PIL import Image as images

    _ignore_pillow_warnings()
    if isinstance(file, Path) and (kind := special_kind(file)) is not None:
        raise InvalidFile(name, f"not a readable image ({kind})")
    try:
        with images.open(file) as image:
            yield image
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InvalidFile(name, f"cannot be read ({error.strerror})") from None
        raise InvalidFile(name, f"not a readable image ({_reason(file, error)})") from None


def _reason(file: Path | IO[bytes], error: Exception) -> str:
    """Return why an image cannot be read: the kind of the file if it is no image, or the error."""
    from PIL import UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    if isinstance(error, DecompressionBombError):
        size = re.search(r"\d{7,}", str(error))
        pixels = f"{int(size[0]):,} pixels" if size else "too many pixels"
        return f"{pixels}, expected at most {MAX_PIXELS:,}: make it smaller"
    try:
        head = _head(file)
    except (OSError, ValueError):
        return first_line(error)
    if (kind := kind_of(head)) is not None:
        return kind
    if isinstance(error, UnidentifiedImageError):
        return unidentified_kind(head)
    if "truncated" in str(error).lower():
        return f"cut short: {first_line(error)}"
    if "MAX_TEXT" in str(error):
        return "more than a megabyte of text in its metadata, save it without them"
    if isinstance(error, (OSError, SyntaxError, RuntimeError)):  # of Pillow's decoders
        return f"damaged: {first_line(error)}"
    return first_line(error)


def _head(file: Path | IO[bytes]) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    file.seek(0)
    return file.read(HEAD_BYTES)


def _ignore_pillow_warnings() -> None:
    """Ignore warnings about unusual metadata: the pixels are right, and a broken file raises.

    A context that ignores them would leak from one thread into another.
    """
    if PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=PILLOW)


def oriented_size(image: Image) -> tuple[int, int]:
    """Return height and width as the photo is viewed, without reading pixels."""
    width, height = image.size
    exchanged = _orientation(image) in (5, 6, 7, 8)
    if exchanged and image.format == "TIFF":  # Pillow 11 and later have exchanged them
        tags = image.getexif()
        exchanged = (width, height) == tuple(tags.get(tag) for tag in TIFF_SIZE)
    return (width, height) if exchanged else (height, width)


def decoded(image: Image) -> Image:
    """Return a photo as mode L or RGB, turned as its orientation tag says."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    if image.format == "TIFF":  # Pillow turns it when it reads the pixels, and drops the tag
        image.load()
    turn = turns.get(_orientation(image))
    upright = to_grey_or_rgb(image)
    return upright if turn is None else upright.transpose(turn)


def _orientation(image: Image) -> int:
    """Return the orientation tag, without Pillow's own reader, which would decode the pixels of a
    PNG."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(ORIENTATION, 1)


def shrunk_size(height: int, width: int, shape: Shape) -> tuple[int, int]:
    """Return height and width of the copy of a photo for a network of that input shape."""
    rows, columns = (-(-side * 8 // 7) for side in shape[1:])
    scale = max(rows / height, columns / width)
    if scale >= 1:
        return height, width
    return max(round(height * scale), 1), max(round(width * scale), 1)


def shrunk(image: Image, shape: Shape) -> Image:
    """Return the copy of a photo (mode L or RGB), with the channels of the network."""
    from PIL.Image import Resampling

    mode = "L" if shape[0] == 1 else "RGB"
    height, width = shrunk_size(image.height, image.width, shape)
    image = image if image.mode == mode else image.convert(mode)
    if image.size == (width, height):
        return image
    return image.resize((width, height), Resampling.BILINEAR)


def crop_rows(
    read: ReadRows, size: tuple[int, int], box: Sequence[float], shape: Shape
) -> NDArray[np.uint8]:
    """Return a box (left, top, right, bottom in pixels) of a copy, resized to ``[C, H, W]``.

    Only the rows are read that the antialiasing filter reaches.
    """
    from PIL import Image as images

    height, width = size
    channels, out_height, out_width = shape
    left, top, right, bottom = box
    reach = max((bottom - top) / out_height, 1.0) + 1
    first, end = max(int(top - reach), 0), min(int(bottom + reach) + 1, height)
    mode = "L" if channels == 1 else "RGB"
    image = images.frombytes(mode, (width, end - first), read(first, end))
    crop = (left, top - first, right, bottom - first)
    if image.size != (out_width, out_height) or crop != (0, 0, out_width, out_height):
        image = image.resize((out_width, out_height), images.Resampling.BILINEAR, box=crop)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
