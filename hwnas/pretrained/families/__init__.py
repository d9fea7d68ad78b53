"""Published networks without their modules: their blocks, and the names of their weights."""
