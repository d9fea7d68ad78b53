"""Spaces of networks that are grown from a start network, layer by layer."""
