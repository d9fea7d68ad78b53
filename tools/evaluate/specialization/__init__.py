"""Searches on published tables of real devices."""
