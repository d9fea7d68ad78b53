"""`hwnas benchmark`: the command, its table and its regression gate."""
