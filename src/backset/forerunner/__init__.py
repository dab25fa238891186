"""A program: a Python command that is started ahead of its time."""
