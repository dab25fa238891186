"""Rebuild an Alembic-managed PostgreSQL database from its migrations, beside the old one."""

import sys

# Invoke turns byte code off for its own process; without it every run would compile us again.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
