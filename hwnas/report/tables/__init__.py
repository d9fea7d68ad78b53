"""Rows of the tables of a report that are more than its plain data."""
