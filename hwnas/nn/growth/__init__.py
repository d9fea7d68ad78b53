"""Function-preserving transformations of trained networks."""
