"""Rebuild an Alembic-managed PostgreSQL database from its migrations, beside the old one."""
