"""The graph of operations that the compiler lowers a module to."""
