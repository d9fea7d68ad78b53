"""Search spaces: what may be chosen, and which blocks a choice means. Free of torch."""
