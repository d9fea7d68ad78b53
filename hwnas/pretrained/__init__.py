"""Networks with published weights: where they come from, and their form as blocks of hwnas."""
