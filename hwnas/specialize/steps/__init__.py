"""The steps of a run: search, screening, training, quantisation, delivery."""
