"""Lowerings: PyTorch modules and functions as nodes of the graph."""
