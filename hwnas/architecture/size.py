"""Height and width of feature maps: one number where both are equal."""

from __future__ import annotations

Size = int | tuple[int, int]
"""Height and width in pixels; a number where they are equal, so that blocks of squares keep their
keys and their files."""


def size_of(height: int, width: int) -> Size:
    return height if height == width else (height, width)


def axes(size: Size) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else size


def area(size: Size) -> int:
    """Return the number of pixels."""
    height, width = axes(size)
    return height * width


def strided(size: Size, stride: int) -> Size:
    """Return the size of the output of a padded convolution: each axis is rounded up."""
    height, width = axes(size)
    return size_of((height - 1) // stride + 1, (width - 1) // stride + 1)


def size_text(size: Size) -> str:
    """Return ``56``, or ``40x24`` of height 40 and width 24."""
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"
