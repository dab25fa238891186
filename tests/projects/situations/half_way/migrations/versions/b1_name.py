"""A column, by an imported name."""

from alembic import op
from sqlalchemy import Column, Text

revision = "b1"
down_revision = "a1"


def upgrade():
    op.add_column("guests", Column("name", Text))


def downgrade():
    pass
