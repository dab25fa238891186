"""Expiry of keys."""

from alembic import op
import sqlalchemy as sa

revision = "b2"
down_revision = "b1"


def upgrade():
    op.add_column("keys", sa.Column("expires", sa.Date))


def downgrade():
    pass
