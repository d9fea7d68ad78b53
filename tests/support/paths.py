"""Folders that tests read: the checkout, and the published data beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Published measurements and data sets; tests that need them skip where the folder is missing."""
