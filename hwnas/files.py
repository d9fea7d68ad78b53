"""Reading and writing files; a kill at any moment leaves the complete old file or the complete new
one."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST, ENOTDIR
from hashlib import sha256
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar
from unicodedata import category

import msgspec
import platformdirs

from hwnas.errors import InvalidFile, UsageError, WriteError
from hwnas.integrity import is_intact_line, seal_line

T = TypeVar("T")

LOCK_WAIT_S = 5.0
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.\w+)?")
"""Name of a temporary file, with the process that writes it."""

LINE_BREAKS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and of line and paragraph breaks."""


def home() -> Path:
    """Return the folder where hwnas stores data between runs (``HWNAS_HOME`` overrides it).

    Raises `UsageError` if the user has no home folder.
    """
    folder = Path(os.environ.get("HWNAS_HOME") or platformdirs.user_data_dir("hwnas"))
    if folder.parts[:1] == ("~",):  # a user without a home, as in some containers
        raise UsageError("this user has no home folder; HWNAS_HOME names a folder to store data in")
    return folder


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


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Raise `WriteError` with ``path`` if the body can't write it."""
    try:
        yield
    except OSError as error:
        raise WriteError(path, _with_obstacle(path, error)) from None


def _with_obstacle(path: Path, error: OSError) -> OSError:
    """Return the error, or one that names the file where ``path`` needs a folder."""
    if error.errno in (EEXIST, ENOTDIR):
        for parent in path.parents:
            if parent.is_file():
                return OSError(error.errno, f"{parent} is a file, expected a folder")
    return error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file next to ``path``, flush it to disk, then rename it.

    Raises `WriteError`; then the old file is unchanged and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def replace_keeping(path: Path, data: bytes) -> None:
    """Write ``data`` like `write_atomic`; an existing file is first renamed to `previous`."""
    before = previous(path)
    with writing(path):
        if path.exists():
            before.unlink(missing_ok=True)
            try:
                os.link(path, before)
            except OSError:  # a file system without hard links
                os.replace(path, before)
    write_atomic(path, data)


def previous(path: Path) -> Path:
    """Return the path under which `replace_keeping` keeps the former file at ``path``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def remove_stale(folder: Path) -> None:
    """Remove temporary files in ``folder`` and below that a killed process left there."""
    for file in folder.rglob(".*.tmp*"):
        number = TEMPORARY.fullmatch(file.name)
        if number is not None and not _is_running(int(number[1])):
            with suppress(OSError):
                file.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def write_json(path: Path, value: object) -> None:
    """Write plain data as indented JSON, atomically."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def append_line(path: Path, value: object) -> None:
    """Append one JSON line to a journal and flush it to disk, see `append_lines`."""
    append_lines(path, [value])


def append_lines(path: Path, values: Iterable[object]) -> None:
    """Append JSON lines to a journal, each with its hash, and flush them to disk.

    A line that a kill left half-written is first ended by a newline, so that only that line is
    lost; `read_lines` skips it. Raises `WriteError`; then the journal is as it was before.
    """
    content = encode_lines(values)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                content = b"\n" + content
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def encode_lines(values: Iterable[object]) -> bytes:
    """Return the lines of a journal, each with its hash."""
    return b"".join(seal_line(msgspec.json.encode(value)) + b"\n" for value in values)


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the intact lines of a journal; damaged and half-written lines are skipped."""
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(kind)
    for line in read_bytes(path).split(b"\n"):
        if line.strip() and is_intact_line(line):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Make ``folder`` and lock it against other processes during the body.

    The system releases the lock when the process ends, however it ends. Temporary files of killed
    processes are removed. Raises `UsageError` if another process has it, `WriteError` if the folder
    can't be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, folder)
        remove_stale(folder)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked a folder."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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


def check_suffix(path: Path, suffixes: Iterable[str]) -> None:
    """Raise `UsageError` for a file that has one of the suffixes in capital letters."""
    suffix = path.suffix.lower()
    if suffix != path.suffix and suffix in suffixes:
        renamed = path.with_suffix(suffix).name
        raise UsageError(f"{path}: the suffix is in small letters here; rename it to {renamed}")


LFS_POINTER = b"version https://git-lfs"


def check_no_pointer(path: Path) -> None:
    """Raise `InvalidFile` for a pointer of Git LFS, which a clone without LFS has in the place of a
    file."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InvalidFile(
                str(path), "is a pointer of Git LFS, not the model; `git lfs pull` fetches it"
            )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in parts."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
