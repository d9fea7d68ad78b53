"""Measured latencies and their statistics: intervals, comparisons, the regression gate."""
