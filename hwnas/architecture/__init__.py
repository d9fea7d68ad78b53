"""Architectures as plain data: blocks, their counts and kernels, the graph that joins them."""
