"""Images of any size and mode as arrays of the shape that a network expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.errors import InvalidFile

if TYPE_CHECKING:
    from PIL.Image import Image

Shape = tuple[int, int, int]
"""``(C, H, W)``; C is 1 (grey) or 3 (RGB)."""

MEMORY_BYTES = 8_000_000_000
"""Maximum size of all decoded images: they are held in memory, and training needs some too."""

MAX_OWN_SIZE = 224
"""Largest default height and width of a network, the usual size for ImageNet."""

SIZE_STEP = 32
"""Images of mixed sizes become squares of a multiple of this, which five strides of 2 divide."""

BATCH_IMAGES, BATCH_PIXELS = 250, 250 * 64 * 64
"""Most images of a batch that is evaluated, and most pixels: for EfficientNet-Lite0 at 160 px, 250
photos take 1.3 GB and 40 take 0.3."""

MAX_16_BIT = 65_535

GREY_MODES = ("1", "L", "I;16", "I")
"""Pillow's names of bilevel, 8-bit and 16-bit grey."""


def fit_images(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Return uint8 ``[N, C, H, W]`` of the given shape from images of any size, 1 or 3 channels."""
    if images.shape[1:] == shape:
        return images
    from PIL import Image

    fitted = np.empty((len(images), *shape), dtype=np.uint8)
    for index, planes in enumerate(images):
        pixels = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
        fitted[index] = fit_image(Image.fromarray(pixels), shape)
    return fitted


def fit_image(image: Image, shape: Shape) -> np.ndarray:
    """Return one image (mode L or RGB) as uint8 ``[C, H, W]``.

    The largest centred box of the target's aspect ratio is resized by antialiased bilinear
    interpolation. This equals resizing the shorter side and cropping the centre, but doesn't
    compute the pixels that are cropped. Grey becomes RGB by repetition, RGB becomes grey by luma
    (0.299 R + 0.587 G + 0.114 B).
    """
    from PIL.Image import Resampling

    channels, height, width = shape
    if channels == 1 and image.mode != "L":
        image = image.convert("L")
    if image.size != (width, height):
        box = centre_box(image.width, image.height, width / height)
        image = image.resize((width, height), Resampling.BILINEAR, box=box)
    pixels = np.asarray(image)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.broadcast_to(planes, shape)


def normalise_pixels(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], scale: float = 255.0
) -> np.ndarray:
    """Return ``(images / scale - mean) / std`` as float32, of uint8 images ``[N, C, H, W]``."""
    shift, width = (np.array(values, dtype=np.float32)[:, None, None] for values in (mean, std))
    result = images.astype(np.float32)
    result /= np.float32(scale)
    result -= shift
    result /= width
    return result


def to_grey_or_rgb(image: Image) -> Image:
    """Return an image of any mode as mode L or RGB. Raises `ValueError` for 32-bit pixels."""
    from PIL import Image as images

    if image.mode == "F":
        raise ValueError("its pixels are floats, expected 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255 instead of scaling it
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > MAX_16_BIT:
            raise ValueError(f"its pixels are up to {pixels.max()}, expected 8 or 16 bits")
        return images.fromarray((pixels >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def common_shape(counts: Mapping[tuple[int, int], int], grey: bool) -> Shape:
    """Return the shape for images of which ``counts`` have the size ``(H, W)``.

    It is the size of more than half of them if that is at most `MAX_OWN_SIZE`; else a square of the
    median shorter side, up to the next multiple of `SIZE_STEP`, at most `MAX_OWN_SIZE`.
    """
    channels = 1 if grey else 3
    total = sum(counts.values())
    (height, width), number = max(counts.items(), key=lambda item: (item[1], item[0]))
    if 2 * number > total and max(height, width) <= MAX_OWN_SIZE:
        return channels, height, width
    sides = np.array([min(size) for size in counts])
    median = np.sort(np.repeat(sides, list(counts.values())))[total // 2]
    side = min(-(-int(median) // SIZE_STEP) * SIZE_STEP, MAX_OWN_SIZE)
    return channels, side, side


def fitting_notes(
    counts: Mapping[tuple[int, int], int], grey: bool, shape: Shape
) -> tuple[str, ...]:
    """Return remarks on what `fit_image` changes in images, of which ``counts`` have the size
    ``(H, W)``: other sizes, sides that are cut off, and colours that are lost."""
    lost = ("the images are in colour, and become grey: the network takes one channel",)
    return (*_size_note(counts, shape), *(lost if shape[0] == 1 and not grey else ()))


def _size_note(counts: Mapping[tuple[int, int], int], shape: Shape) -> tuple[str, ...]:
    total, size = sum(counts.values()), (shape[1], shape[2])
    others = {key: number for key, number in counts.items() if key != size}
    if not others:
        return ()
    cut = any(_is_cut(key, size) for key in others)
    how = "cropped and resized" if cut else "resized"
    by_area = sorted(others, key=lambda key: (key[0] * key[1], key))
    span = " to ".join(dict.fromkeys(f"{h}x{w}" for h, w in (by_area[0], by_area[-1])))
    sizes = f"{len(others)} size{'s' * (len(others) > 1)}, {span}"
    number = sum(others.values())
    if number == total:
        return (f"the images have {sizes}, and are {how} to {size[0]}x{size[1]}",)
    some = f"{number:,} of {total:,} images {'have' if number > 1 else 'has'} other sizes ({sizes})"
    verb = "are" if number > 1 else "is"
    return (f"{some} and {verb} {how} to {size[0]}x{size[1]} as the rest",)


def _is_cut(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Return whether a pixel or more of an image's sides is outside of the box that is taken."""
    (height, width), aspect = size, target[1] / target[0]
    return max(width - height * aspect, height - width / aspect) >= 1


def check_memory(where: str, count: int, shape: Shape) -> None:
    """Raise `InvalidFile` if ``count`` decoded images of that shape do not fit `MEMORY_BYTES`."""
    channels, height, width = shape
    size = count * channels * height * width
    if size > MEMORY_BYTES:
        why = f"{count} images of {channels}x{height}x{width} are {size / 1e9:.1f} GB decoded"
        limit = f"expected at most {MEMORY_BYTES / 1e9:g} GB: use fewer images or a smaller size"
        raise InvalidFile(where, f"{why}, {limit}")


def centre_box(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    """Return left, upper, right, lower of the largest centred box with width = aspect * height."""
    box_width = min(float(width), height * aspect)
    box_height = min(float(height), width / aspect)
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return left, upper, min(left + box_width, width), min(upper + box_height, height)


def images_at_once(pixels: int) -> int:
    """Return the number of images of a number of pixels that are evaluated at once."""
    return max(1, min(BATCH_IMAGES, BATCH_PIXELS // pixels))
