"""Lowering of operations on feature maps."""
