"""Runs on this disk: what there is, and what of it may be deleted."""
