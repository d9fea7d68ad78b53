"""The scale of a space if the user states none: as large as the budget allows."""
