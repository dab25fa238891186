"""users"""

from alembic import op

revision, down_revision = "a1", None


def upgrade() -> None:
    op.execute("CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL)")
