"""Rows of those tables of a report that need more than its plain data."""
