"""What a file is that no decoder takes as an image, by its first bytes."""

from __future__ import annotations

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text file begins that Git has in place of a large file."""

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
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")


def kind_of(head: bytes) -> str | None:
    """Return what a file is that begins with these bytes, None for what may be an image."""
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


def _kind_of_media(brand: bytes) -> str:
    """Return the kind of a file of the ISO base media format."""
    if brand in HEIC_BRANDS:
        return "a HEIC photo, convert it to JPEG"
    if brand in AVIF_BRANDS:
        return "an AVIF image, convert it to JPEG"
    return "a video"
