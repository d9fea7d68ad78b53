"""Networks that were written before anything was known of how they compile, by subject."""
