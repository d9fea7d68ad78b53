"""Packs the worker as one zip file that the Python of another computer can run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

MAIN = b"""\
import json, sys

if sys.version_info < (3, 10):
    reason = "the worker needs Python 3.10 or later, but {} is {}.{}; [remote] python names another"
    reason = reason.format(sys.executable, *sys.version_info[:2])
    print(json.dumps({"error": reason}))
    sys.exit(1)
from hwnas.devices.worker.main import main

sys.exit(main())
"""
"""Program of the archive, in the syntax of any Python 3: boards may have an old one."""


def worker_archive() -> bytes:
    """Return the archive; the same sources give the same bytes."""
    files = {"__main__.py": MAIN, "hwnas/__init__.py": b"", "hwnas/devices/__init__.py": b""}
    here = Path(__file__).parent
    for file in sorted(here.rglob("*.py")):
        files[f"hwnas/devices/worker/{file.relative_to(here).as_posix()}"] = file.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980
    return buffer.getvalue()
