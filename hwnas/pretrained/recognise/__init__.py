"""Recognises a PyTorch module as a chain of blocks: its layers, their groups, the blocks."""
