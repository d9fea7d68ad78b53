"""Measure model files on a device, compare them, and judge them against a baseline."""
