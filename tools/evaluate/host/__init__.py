"""Budgets and accuracy of `hwnas specialize` on this machine's two runtimes."""
