"""Spaces of tree cells on residual networks: `tree` and TOML files."""
