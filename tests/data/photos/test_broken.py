"""Images that can't be read: named with the reason, all at once, before any work."""

from __future__ import annotations

import os
import runpy
import struct
import zlib
from importlib.resources import as_file
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import load_dataset
from hwnas.data.images import to_grey_or_rgb
from hwnas.data.photos import tiers
from hwnas.data.photos.kinds import kind_of
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.photos.reading import ORIENTATION, decoded, opened, oriented_size
from hwnas.errors import InvalidFile
from hwnas.shipped import shipped
from tests.support.data.photos import noise_folder

STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a photo is stored that an orientation tag turns upright."""

with as_file(shipped("export") / "kits" / "image_pixels.py") as kit:
    read_pixels = runpy.run_path(str(kit))["read_pixels"]

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12345\n"


def bomb(side: int = 20_000) -> bytes:
    """Return a PNG whose header claims that many pixels, and that has none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


BROKEN = {
    "empty.jpg": (b"", "the file is empty"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo, convert it to JPEG"),
    "phone.jpg": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC photo, convert it to JPEG"),
    "pointer.png": (POINTER, "a Git LFS pointer .* git lfs pull"),
    "bomb.png": (bomb(), "400,000,000 pixels, expected at most 178,956,970"),
    "zeros.png": (b"\0" * 4000, "the file begins with zeros"),
    "clip.jpg": (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
    "denied.jpg": (b"Access denied\r\n", r"a text that begins with 'Access denied'\)"),
    "header.gif": (b"GIF89a\x20", "a GIF image whose header is damaged or cut short"),
    "noise.jpg": (b"\x9c\x01\xfe\x80" * 9, "no image of a known format"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return noise_folder(tmp_path / "pets")


def break_all(folder: Path) -> None:
    for name, (content, _) in BROKEN.items():
        (folder / "cat" / name).write_bytes(content)
    half = (folder / "dog" / "003.png").read_bytes()
    (folder / "dog" / "003.png").write_bytes(half[: len(half) // 2])


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_file_is_in_place_of_an_image_is_said(tmp_path: Path, name: str) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(InvalidFile, match=rf"{name}: not a readable image \({reason}"),
        opened(tmp_path / name, name),
    ):
        pass


@pytest.mark.parametrize("tier", ["memory", "files"])
def test_all_broken_images_are_listed_before_any_work_or_left_out(
    folder: Path, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_all(folder)
    count = len(BROKEN) + 1
    if tier == "files":
        monkeypatch.setattr(tiers, "memory_limit_bytes", lambda: 0)
        monkeypatch.setattr(tiers, "missing_bytes", lambda *_: 1)
    with pytest.raises(
        InvalidFile,
        match=rf"^{folder}: {count} of {59 + count} images can't be read:\n",
    ) as raised:
        load_dataset(str(folder))
    lines = str(raised.value).splitlines()
    assert len(lines) == count + 2
    assert lines[-1].endswith("or leave them out with --skip-broken")
    names = [*(f"cat/{name}" for name in sorted(BROKEN)), "dog/003.png"]
    for name, line in zip(names, lines[1:-1], strict=True):
        assert f"{name}: not a readable image" in line
    messages: list[str] = []
    dataset = load_dataset(str(folder), options=ReadingOptions(True, messages.append))
    splits = dataset.train, dataset.valid, dataset.test
    assert sum(len(split.labels) for split in splits) == 59
    assert sum(line.startswith("skipped: ") for line in messages) == count
    assert f"{count} images that could not be read were left out" in dataset.notes


def test_a_long_list_is_cut(folder: Path) -> None:
    for number in range(30):
        (folder / "cat" / f"new{number:02}.png").write_bytes(POINTER)
    with pytest.raises(InvalidFile, match=r"30 of 90 images can't be read") as raised:
        load_dataset(str(folder))
    lines = str(raised.value).splitlines()
    assert len(lines) == 23 and lines[21] == "  … and 10 more; `hwnas data show` lists them all"


def test_a_folder_of_pointers_only_says_how_to_fetch_the_images(folder: Path) -> None:
    for file in folder.glob("*/*.png"):
        file.write_bytes(POINTER)
    with pytest.raises(InvalidFile, match=r"none of its 60 images .* git lfs pull"):
        load_dataset(str(folder))


def test_what_begins_like_an_image_has_no_other_kind() -> None:
    for head in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM6"):
        assert kind_of(head) is None


@pytest.mark.parametrize(
    ("pixels", "why"),
    [(np.full((4, 4), 0.5, np.float32), "floats"), (np.full((4, 4), 70_000, np.int32), "70000")],
)
def test_pixels_of_32_bits_are_refused(tmp_path: Path, pixels: np.ndarray, why: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "deep.tiff")
    with (
        pytest.raises(InvalidFile, match=rf"{why}.* expected 8 or 16 bits"),
        opened(tmp_path / "deep.tiff", "deep.tiff") as image,
    ):
        to_grey_or_rgb(image)


def test_pictures_of_every_mode_are_read_without_a_warning(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    palette = image.quantize(16)
    palette.save(tmp_path / "bytes.png", transparency=bytes(range(0, 256, 16)))
    palette.save(tmp_path / "index.png", transparency=3)
    for mode in ("L", "LA", "RGBA", "1", "RGB"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    frames = [Image.fromarray(255 - noise)]
    image.save(tmp_path / "moving.png", save_all=True, append_images=frames)
    image.save(tmp_path / "moving.webp", save_all=True, append_images=frames, lossless=True)
    for file in sorted(tmp_path.iterdir()):
        with opened(file, file.name) as picture:
            pixels = np.asarray(to_grey_or_rgb(picture))
        assert pixels.shape[:2] == (8, 8) and pixels.dtype == np.uint8
        if file.stem == "moving":
            np.testing.assert_array_equal(pixels, noise)


def test_a_pipe_is_no_image_and_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.raises(InvalidFile, match=r"cat/pipe\.png: .* \(a pipe, socket or device"):
        load_dataset(str(folder))


def test_a_link_that_leads_nowhere_is_named_or_left_out(folder: Path) -> None:
    (folder / "cat" / "annex.png").symlink_to("nowhere")
    with pytest.raises(InvalidFile, match=r"annex\.png: .*\(No such file or directory\); repair"):
        load_dataset(str(folder))
    dataset = load_dataset(str(folder), options=ReadingOptions(True))
    assert "1 image that could not be read was left out" in dataset.notes


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("tag", range(9))
def test_every_orientation_of_every_format_is_upright(
    tmp_path: Path, suffix: str, tag: int
) -> None:
    """The photo is 24 px wide and 16 high, and bright at its upper left; 0 is no orientation."""
    upright = Image.new("RGB", (24, 16), (20, 20, 20))
    upright.paste((220, 220, 220), (0, 0, 8, 4))
    stored = upright.transpose(STORED[tag]) if tag in STORED else upright
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    file = tmp_path / f"photo.{suffix}"
    stored.save(file, exif=exif, quality=95)
    with opened(file, file.name) as image:
        assert oriented_size(image) == (16, 24)
        pixels = np.asarray(decoded(image)).astype(int)
    assert pixels.shape == (16, 24, 3)
    assert np.abs(pixels - np.asarray(upright)).mean() < 10
    by_kit = read_pixels(file, 3, 16, 24).transpose(1, 2, 0)
    np.testing.assert_array_equal(by_kit, pixels)
