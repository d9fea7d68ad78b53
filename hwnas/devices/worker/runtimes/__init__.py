"""The inference runtimes that the worker opens model files with, and their profilers."""
