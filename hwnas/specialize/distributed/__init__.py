"""Several processes of one run: rank 0 decides, the other ranks follow."""
