"""Databases for tests: the template of the tests' own database, and clones of it."""
