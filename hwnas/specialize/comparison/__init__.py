"""Comparison of runs: their delivered networks, and which differences are significant."""
