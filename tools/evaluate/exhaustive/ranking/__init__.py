"""What decides how well a supernet ranks the networks of the table."""
