"""The space of cells: two small graphs that a network is stacked from."""
