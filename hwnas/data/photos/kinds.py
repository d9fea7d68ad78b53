"""Recognises the kind of a file that is no image, by its first bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of the text file that Git LFS has in place of a large file."""

HEAD_BYTES = 512
"""Bytes of a file that `kind_of` looks at."""

BEGINNINGS = (
    (LFS_POINTER, "a Git LFS pointer in place of the image, fetch it with git lfs pull"),
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"\0\5\x16\7", "the macOS metadata of another file"),
)
MARKUP = (
    (b"<!doctype html", "an HTML page, the answer of a server in place of the image"),
    (b"<html", "an HTML page, the answer of a server in place of the image"),
    (b"<svg", "a vector drawing (SVG), convert it to PNG"),
    (b"<?xml", "an XML text"),
    (b"{", "a JSON text"),
)
IMAGES = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
"""First bytes of images."""

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")


def kind_of(head: bytes) -> str | None:
    """Return the kind of a file that begins with these bytes, None if it may be an image."""
    if not head:
        return "the file is empty"
    for beginning, kind in BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[4:8] == b"ftyp":
        return _kind_of_media(head[8:12])
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, kind in MARKUP:
        if text.startswith(beginning):
            return kind
    if not head.strip(b"\0"):
        return "the file begins with zeros, as after a copy that was cut off"
    return None


def special_kind(file: Path) -> str | None:
    """Return the kind of a path that is no regular file, such as a pipe, which may never end."""
    try:
        mode = os.stat(file).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device, not a file"


def unidentified_kind(head: bytes) -> str:
    """Return the probable kind of a file that is no image and none of the kinds of `kind_of`."""
    for beginning, name in IMAGES:
        if head.startswith(beginning):
            return f"a {name} image whose header is damaged or cut short"
    text = head[:40].decode("ascii", "replace")
    words = " ".join(text.split())
    if words.isprintable() and "\ufffd" not in words:
        return f"a text that begins with {words!r}"
    return "no image of a known format"


def _kind_of_media(brand: bytes) -> str:
    """Return the kind of a file of the ISO base media format."""
    if brand in HEIC_BRANDS:
        return "a HEIC photo, convert it to JPEG"
    if brand in AVIF_BRANDS:
        return "an AVIF image, convert it to JPEG"
    return "a video"
