"""A sequence."""

from alembic import op

revision = "d1"
down_revision = "c1"


def upgrade():
    op.execute("CREATE SEQUENCE numbers")


def downgrade():
    pass
