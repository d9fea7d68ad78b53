"""The report of a run: its rows, its notes, the next commands."""
