"""What a model file and its manifest say about themselves: architecture, input, origin."""
