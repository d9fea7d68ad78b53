"""Reading and writing files; a kill at any moment leaves the old file or the new one, whole."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar
from unicodedata import category

import msgspec
import platformdirs

from hwnas.errors import HwnasError, InvalidFile, UsageError

T = TypeVar("T")

LOCK_WAIT_S = 5.0

LINE_BREAKS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and of line and paragraph breaks."""


def home() -> Path:
    """Return the folder where hwnas stores data between runs (``HWNAS_HOME`` overrides it)."""
    return Path(os.environ.get("HWNAS_HOME") or platformdirs.user_data_dir("hwnas"))


def read_bytes(path: Path | Traversable) -> bytes:
    """Return the content of a file. Raises `InvalidFile` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None


def decode(content: bytes, kind: type[T], file: str) -> T:
    """Decode JSON into ``kind``. Raises an `InvalidFile` with the path of the wrong field."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        raise InvalidFile(file, str(error)) from None


def decode_toml(content: bytes, kind: type[T], file: str) -> T:
    """Decode TOML into ``kind``. Raises an `InvalidFile` with the path of the wrong field."""
    try:
        return msgspec.toml.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(file, str(error)) from None


def read_json(path: Path | Traversable, kind: type[T]) -> T:
    """Read a JSON file into ``kind``. Raises `InvalidFile`."""
    return decode(read_bytes(path), kind, str(path))


def printable(name: str) -> str:
    """Return a file's name as text of one line, which any output can encode.

    Bytes that are no UTF-8 and control characters become escapes such as ``\\xe9`` and ``\\n``.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        each.encode("unicode_escape").decode() if category(each) in LINE_BREAKS else each
        for each in text
    )


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file next to ``path``, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: object) -> None:
    """Write plain data as indented JSON, atomically."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def append_line(path: Path, value: object) -> None:
    """Append one JSON line to a journal and flush it to disk.

    A line that a kill left half-written is first ended by a newline, so that only that line is
    lost; `read_lines` skips it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell() and _last_byte(file.fileno(), file.tell()) != b"\n":
            file.write(b"\n")
        file.write(msgspec.json.encode(value) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the complete lines of a journal; lines that a kill left half-written are skipped."""
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(kind)
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Make ``folder`` and keep other processes out of it for the body.

    The system releases the lock when the process ends, however it ends. Raises `UsageError` if
    another process has it, `HwnasError` if the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise HwnasError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(f"{folder}: another process is working in it") from None
            time.sleep(0.1)


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)
