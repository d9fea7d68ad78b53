"""Detection and dense prediction."""
