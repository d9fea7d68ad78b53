"""The lowering of each ATen operation, by subject."""
