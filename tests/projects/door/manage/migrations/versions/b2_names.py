"""names"""

from alembic import op

revision, down_revision = "b2", "a1"


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN name text")
