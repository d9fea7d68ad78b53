"""Sequences in the manner of speech and language code."""
