"""Runs that are killed and devices that are lost."""
