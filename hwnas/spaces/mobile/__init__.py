"""Spaces of MBConv chains: `mobile`, `ofa` and TOML files."""
