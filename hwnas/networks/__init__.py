"""Networks by name, file or factory, with their weights."""
