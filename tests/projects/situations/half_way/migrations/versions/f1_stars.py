"""A domain."""

from alembic import op

revision = "f1"
down_revision = "e1"


def upgrade():
    op.execute("CREATE DOMAIN stars AS int CHECK (VALUE <= 5)")


def downgrade():
    pass
