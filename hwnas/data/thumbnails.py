"""Small pictures that a page embeds."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_PX = 192
"""Longer side of a thumbnail; smaller images keep their size."""

LOSSLESS_PX = 48
"""Longer side up to which a thumbnail is stored without loss: it is shown enlarged."""


def thumbnail(image: Image, longer_px: int = THUMBNAIL_PX) -> str:
    """Return an image of mode L or RGB as a data URI, shrunk to ``longer_px``."""
    small = image.copy()
    small.thumbnail((longer_px, longer_px))
    kind = "png" if max(small.size) <= LOSSLESS_PX else "jpeg"
    content = BytesIO()
    small.save(content, kind, quality=85)
    return f"data:image/{kind};base64,{b64encode(content.getvalue()).decode()}"
