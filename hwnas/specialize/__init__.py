"""`hwnas specialize`: device, budget and data in; a measured model file and its report out."""
