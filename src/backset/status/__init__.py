"""Which state a database is in, by which evidence, and the smallest cure."""
