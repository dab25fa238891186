"""What stands in one database, read from its catalogs."""
