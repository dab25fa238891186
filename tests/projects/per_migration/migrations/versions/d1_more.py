"""A default of that value."""

from alembic import op
import sqlalchemy as sa

revision = "d1"
down_revision = "c1"


def upgrade():
    op.alter_column("t", "mood", server_default="ok")


def downgrade():
    pass
