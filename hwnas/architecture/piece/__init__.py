"""Fixed pieces of networks: small graphs of layers with one input and one output, as text."""
