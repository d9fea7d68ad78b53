"""Data sets: where images come from, how they are split and resized. Free of the network."""
