"""EAS: inherited weights, learned actions, the end result."""
