"""What a new database gets of the old one, beside its content."""
