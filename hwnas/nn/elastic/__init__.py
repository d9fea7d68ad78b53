"""Cutting trained networks: weights of smaller networks in closed form, without training."""
