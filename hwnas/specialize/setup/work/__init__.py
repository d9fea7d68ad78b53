"""The work of a run: schedules of papers, and measured speed."""
