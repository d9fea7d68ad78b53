"""Programs that make and check the shipped data."""
