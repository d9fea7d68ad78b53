"""Data sets of images: their sources, splits and sizes. Free of the networks."""
