"""Alembic at work on one database, by a process of its own or by the project's own command."""
