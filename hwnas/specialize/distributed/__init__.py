"""Several processes of one run: what rank 0 decides and the others follow."""
