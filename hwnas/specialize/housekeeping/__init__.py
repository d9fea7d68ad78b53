"""Runs on this disk: listing them, and deleting what they no longer need."""
