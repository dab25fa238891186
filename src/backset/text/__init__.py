"""Words for people: sizes, what Alembic says, texts without passwords."""
