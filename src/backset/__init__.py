"""Rebuild an Alembic-managed PostgreSQL database: backup → reset → upgrade → verify → seed → promote."""
