"""`hwnas verify`: a file against its network, a bundle against its manifest."""
