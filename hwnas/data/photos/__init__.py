"""Photos: encoded images of any size, their sources, and the storage of their pixels."""
