"""Packs the worker as one zip file that the Python of another computer can run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

MAIN = b"import sys\nfrom hwnas.devices.worker.main import main\nsys.exit(main())\n"


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
