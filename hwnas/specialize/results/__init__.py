"""What a run reports: rows, notes and the next commands."""
