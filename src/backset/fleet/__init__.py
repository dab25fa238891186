"""A task on many databases: which, a journal, an executor, and one database's work by a chain."""
