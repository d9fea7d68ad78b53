"""Rules that read groups of layers as blocks, by family."""
