"""Evaluations: is the promise kept, and how well."""
