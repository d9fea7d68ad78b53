"""PyTorch modules of the blocks, networks built from architectures, and supernets."""
