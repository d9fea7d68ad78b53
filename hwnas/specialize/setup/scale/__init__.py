"""The scale of a space if none is given: as large as the budget allows."""
