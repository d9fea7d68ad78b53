"""`hwnas latency` and its subcommands."""
