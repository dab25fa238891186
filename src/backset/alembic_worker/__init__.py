"""The only user of Alembic: a child process that works on one database, which it must prove.

It imports nothing of backset, so that it also runs under another project's interpreter (Python 3.9
and later, Alembic 1.9 and later, SQLAlchemy 1.4 and later).
"""
