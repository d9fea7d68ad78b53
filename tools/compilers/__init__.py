"""`bench_compiler.py` in parts: networks, what a file is like, the other converters."""
