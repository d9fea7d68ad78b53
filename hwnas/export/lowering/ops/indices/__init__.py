"""Lowering of reads and writes at indices."""
