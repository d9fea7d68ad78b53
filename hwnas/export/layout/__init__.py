"""The order of axes in which a file stores each value."""
