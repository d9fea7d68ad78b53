"""Packed files: complete or resumed, and errors in one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hwnas.data.datasets import READING
from hwnas.data.photos import copying, packing
from hwnas.data.photos.copying import read_headers
from hwnas.data.photos.labelled import Progress, ReadingOptions
from hwnas.data.photos.packed import read_copies, read_header
from hwnas.data.photos.packing import pack
from hwnas.data.photos.sources.folder import folder_photos
from hwnas.errors import HwnasError, InvalidFile, UsageError
from tests.support.data.photos import noise_folder

SHAPE = (3, 7, 7)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (copying, packing):
        monkeypatch.setattr(module, "CHUNK_PHOTOS", 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return noise_folder(tmp_path / "pets")


def write(folder: Path, path: Path, options: ReadingOptions = READING) -> Path:
    photos = folder_photos(folder, 0.2)
    pack(photos, read_headers(photos.photos, options), SHAPE, photos.key(), path, options)
    return path


def stop_after(photos: int) -> Callable[[str], AbstractContextManager[Progress]]:
    def update(done: float, total: float, remark: str) -> None:
        if done >= photos:
            raise KeyboardInterrupt

    return lambda title: nullcontext(update)


def test_a_packing_that_is_stopped_goes_on_at_the_last_whole_chunk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = write(folder, tmp_path / "whole.packed"), tmp_path / "part.packed"
    with pytest.raises(KeyboardInterrupt):
        write(folder, path, ReadingOptions(step=stop_after(30)))
    assert not path.exists()
    chunks: list[int] = []
    finish = packing.PartFile.finish
    monkeypatch.setattr(
        packing.PartFile,
        "finish",
        lambda self, chunk: (chunks.append(chunk.index), finish(self, chunk)),
    )
    write(folder, path)
    assert chunks == [4, 5, 6, 7]
    assert path.read_bytes() == whole.read_bytes()
    assert {file.name for file in tmp_path.glob("part*")} == {"part.packed"}


def test_a_packing_of_changed_photos_starts_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pets.packed"
    with pytest.raises(KeyboardInterrupt):
        write(folder, path, ReadingOptions(step=stop_after(30)))
    shutil.copy(folder / "cat" / "000.png", folder / "cat" / "002.png")
    write(folder, path)
    assert path.read_bytes() == write(folder, tmp_path / "whole.packed").read_bytes()


def test_a_full_disk_is_one_line_and_nothing_is_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "pets.packed", 0
    pwrite = os.pwrite

    def full(descriptor: int, content: bytes, place: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(HwnasError, match=r"pets\.packed: the disk is full; free .* goes on"):
            write(folder, path)
    part = packing.PartFile(path, read_part_header(path))
    assert len(part.done) >= 3
    part.close()
    write(folder, path)
    assert path.read_bytes() == write(folder, tmp_path / "whole.packed").read_bytes()


def read_part_header(path: Path) -> packing.Header:
    content = path.with_name(f"{path.name}.part").read_bytes()[: packing.HEADER_BYTES]
    return msgspec.json.decode(content, type=packing.Header)


def test_too_little_space_is_said_before_packing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SPARE_BYTES", 1 << 60)
    with pytest.raises(HwnasError, match=r"packing takes 0\.0 GB, and .* GB more must be free"):
        write(folder, tmp_path / "pets.packed")
    assert list(tmp_path.glob("*.part")) == []


def test_opening_reads_no_pixels(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, tmp_path / "pets.packed")
    monkeypatch.setattr(os, "pread", lambda *arguments: pytest.fail("pixels were read"))
    copies, photos = read_copies(path)
    assert photos.classes == ("cat", "dog") and len(photos.labels) == 60
    source = copies.source(photos)
    assert source.statistics is not None and len(source.train.labels) > 30


@pytest.mark.parametrize("size", [100, 4096, 20_000])
def test_a_file_that_is_cut_short_is_named(folder: Path, tmp_path: Path, size: int) -> None:
    path = write(folder, tmp_path / "pets.packed")
    os.truncate(path, size)
    with pytest.raises(InvalidFile, match=r"pets\.packed: (has \d+ bytes|not a packed)"):
        read_header(path)


def test_a_file_that_shrinks_while_it_is_used_is_named(folder: Path, tmp_path: Path) -> None:
    path = write(folder, tmp_path / "pets.packed")
    copies, photos = read_copies(path)
    os.truncate(path, 5000)
    with pytest.raises(InvalidFile, match="is cut short"):
        copies.source(photos).train.images[:]


def test_each_copy_is_where_the_layout_says(folder: Path, tmp_path: Path) -> None:
    copies, _ = read_copies(write(folder, tmp_path / "pets.packed"))
    counts = copies.layout.sizes.prod(axis=1) * 3
    assert np.diff(copies.layout.offsets.astype(np.int64)).tolist() == counts.tolist()
    assert copies.layout.sizes.min(axis=1).max() == 8


def test_a_file_of_other_photos_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    path = write(folder, tmp_path / "pets.packed")
    content = path.read_bytes()
    write(folder, path)
    assert path.read_bytes() == content
    shutil.copy(folder / "cat" / "000.png", folder / "cat" / "002.png")
    with pytest.raises(UsageError, match=r"pets\.packed: is a packed file of other images"):
        write(folder, path)


def test_who_comes_second_waits_and_uses_the_file_of_the_first(
    folder: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    options = ReadingOptions(say=lines.append)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: write(folder, tmp_path / "pets.packed", options), range(3)))
    assert len(lines) == 1
    whole = write(folder, tmp_path / "whole.packed")
    assert (tmp_path / "pets.packed").read_bytes() == whole.read_bytes()
