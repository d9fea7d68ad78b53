"""Verification: model files run in their runtime beside PyTorch."""
