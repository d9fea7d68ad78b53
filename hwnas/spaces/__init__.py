"""Search spaces: their decisions and candidates, and the blocks of each choice. Free of torch."""
