"""Single layers and functions in rarer forms."""
