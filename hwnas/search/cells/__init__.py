"""Searches over cells: DARTS, PC-DARTS, ISTA-NAS."""
