"""The only user of Alembic: a child process that works on one database, which it must prove."""
