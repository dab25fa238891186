"""Users."""

from alembic import op

revision, down_revision = "a1", None


def upgrade():
    op.execute("CREATE TABLE users (id int)")


def downgrade():
    op.execute("DROP TABLE users")
