"""Time and memory of search steps."""
