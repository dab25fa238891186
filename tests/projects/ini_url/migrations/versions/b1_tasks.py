"""Tasks."""

from alembic import op

revision, down_revision = "b1", "a1"


def upgrade():
    op.execute("CREATE TABLE tasks (id int)")


def downgrade():
    op.execute("DROP TABLE tasks")
