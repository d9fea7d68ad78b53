"""An exception that stands for a kill of the process."""


class Killed(Exception):
    """Raised by a test where a run should end as if its process were killed."""
