"""One HTML page of a database, its revisions and a run, which loads nothing from anywhere."""
