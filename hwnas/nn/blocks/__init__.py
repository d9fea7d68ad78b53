"""Blocks (plain data) as PyTorch modules; images are ``[N, C, H, W]`` everywhere."""
