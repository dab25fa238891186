"""The tasks that are no chain of steps."""
