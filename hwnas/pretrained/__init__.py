"""Networks with published weights: their sources, and their blocks and weights in hwnas."""
