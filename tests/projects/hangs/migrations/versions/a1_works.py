"""Works."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE t (id int)")


def downgrade():
    pass
