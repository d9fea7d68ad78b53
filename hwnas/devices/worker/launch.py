"""Starts the worker on this machine; on another computer `archive` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from hwnas.devices.worker.main import main

    sys.exit(main())
