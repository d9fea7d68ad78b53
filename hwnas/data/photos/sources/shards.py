"""Tar shards in the layout of WebDataset: for each image a file ``KEY.jpg`` and its label.

The label is ``KEY.cls`` (a class number or name) or ``KEY.json`` with ``label`` or ``cls``. A shard
whose name begins with train, val or test has images of that split.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from hwnas.data.photos.labelled import LabelledPhotos
from hwnas.data.photos.reading import opened
from hwnas.data.photos.sources.dividing import (
    SPLIT_NAMES,
    Files,
    complete_splits,
    labelled,
    numbered,
    split_rule,
)
from hwnas.data.photos.sources.grouping import pattern_groups
from hwnas.errors import InvalidFile

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")
LABEL_KEYS = ("label", "cls", "class")
BLOCK_BYTES = 512
MAX_LABEL_BYTES = 1_000_000
BRACES = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")


class Member(NamedTuple):
    """An image in a shard."""

    shard: Path
    start: int
    size: int


def shard_files(pattern: str) -> list[Path]:
    """Return the shards of a folder, of a file or of a pattern like ``train-{000..010}.tar``."""
    match = BRACES.fullmatch(pattern)
    if match is None:
        path = Path(pattern).expanduser()
        return sorted(path.glob("*.tar")) if path.is_dir() else [path]
    before, first, last, after = match.groups()
    numbers = range(int(first), int(last) + 1)
    names = [f"{before}{number:0{len(first)}}{after}" for number in numbers]
    return [shard for name in names for shard in shard_files(name)]


def shard_photos(pattern: str, valid_share: float, group_by: str = "") -> LabelledPhotos:
    """Return the photos of shards. Raises `InvalidFile` for a shard that is cut short."""
    parts: dict[str, Files] = {}
    members: dict[str, Member] = {}
    shards = shard_files(pattern)
    for shard in shards:
        part = _part(shard)
        for key, member, label in _samples(shard):
            name = f"{shard.name}/{key}"
            if name in members:
                raise InvalidFile(str(shard), f"has two images {key!r}")
            members[name] = member
            parts.setdefault(part, {}).setdefault(label, []).append(name)
    if not members:
        raise InvalidFile(pattern, "has no shards with images, expected KEY.jpg and KEY.cls")
    if len(parts) > 1 and "" in parts:
        why = "names of some shards begin with train, val or test, and of others do not"
        raise InvalidFile(pattern, why)
    groups = pattern_groups(pattern, group_by, members)
    splits = complete_splits(pattern, parts, valid_share, groups)
    name = re.sub(r"[^\w-]+", "-", Path(pattern).expanduser().name.removesuffix(".tar")).strip("-")
    return labelled(
        pattern,
        name,
        splits,
        lambda names: ShardPhotos(names, members),
        classes=numbered(splits[0]),
    )._replace(split=split_rule(sorted(parts), groups, splits))


class ShardPhotos:
    """Images in shards, read where they are."""

    def __init__(self, names: list[str], members: dict[str, Member]) -> None:
        self.names, self.members = names, [members[name] for name in names]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return str(self.members[row].shard.parent / self.names[row])

    def open(self, row: int) -> AbstractContextManager[Image]:
        return opened(BytesIO(self.content(row)), self.name(row))

    def size_bytes(self, row: int) -> int:
        return self.members[row].size

    def content(self, row: int) -> bytes:
        shard, start, size = self.members[row]
        try:
            descriptor = os.open(shard, os.O_RDONLY)
        except OSError as error:
            raise InvalidFile(str(shard), error.strerror or str(error)) from None
        try:
            return os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)

    def state(self) -> bytes:
        shards = sorted({member.shard for member in self.members})
        states = [(shard.name, shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
        return repr((states, self.names)).encode("utf-8", "surrogateescape")


def _part(shard: Path) -> str:
    word = re.match("[a-z]*", shard.name.lower())
    return SPLIT_NAMES.get(word[0], "") if word else ""


def _samples(shard: Path) -> Iterator[tuple[str, Member, str]]:
    """Yield key, image and label of each sample."""
    key, image, label = "", None, None
    for name, member, content in _members(shard):
        suffix = name.rpartition("/")[2].partition(".")[2]
        path = name[: len(name) - len(suffix) - 1] if suffix else name
        if path != key:
            if image is not None:
                yield key, image, _checked(shard, key, label)
            key, image, label = path, None, None
        kind = suffix.lower().rpartition(".")[2]
        if kind in IMAGE_SUFFIXES:
            image = member
        elif kind == "cls":
            label = content.decode(errors="replace").strip()
        elif kind == "json" and label is None:
            label = _json_label(shard, name, content)
    if image is not None:
        yield key, image, _checked(shard, key, label)


def _checked(shard: Path, key: str, label: str | None) -> str:
    if not label:
        why = f'image {key!r} has no label, expected {key}.cls, or {key}.json with "label"'
        raise InvalidFile(str(shard), why)
    return label


def _json_label(shard: Path, name: str, content: bytes) -> str | None:
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(shard), f"{name!r}: {error}") from None
    if not isinstance(fields, dict):
        return None
    values = cast(dict[str, object], fields)
    labels = [values[key] for key in LABEL_KEYS if isinstance(values.get(key), int | str)]
    return str(labels[0]) if labels else None


def _members(shard: Path) -> Iterator[tuple[str, Member, bytes]]:
    """Yield name and place of each file in a shard, with the content of small ones."""
    try:
        size = shard.stat().st_size
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                end = info.offset_data + info.size
                if end > size:
                    why = f"is cut short: {info.name!r} ends at byte {end} of {size}"
                    raise InvalidFile(str(shard), why)
                content = b""
                if info.isfile() and info.name.endswith((".cls", ".json")):
                    content = os.pread(
                        file.fileno(), min(info.size, MAX_LABEL_BYTES), info.offset_data
                    )
                if info.isfile():
                    yield info.name, Member(shard, info.offset_data, info.size), content
            tail = os.pread(file.fileno(), BLOCK_BYTES, max(size - BLOCK_BYTES, 0))
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise InvalidFile(str(shard), f"not a readable tar file ({error})") from None
    if tail.strip(b"\0"):
        raise InvalidFile(str(shard), "is cut short: the end of the archive is missing")
