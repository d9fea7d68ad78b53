"""Runs side by side: what they delivered, and what of it differs for real."""
