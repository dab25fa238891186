"""Cities."""

import sqlalchemy as sa
from alembic import op

revision = "c1"
down_revision = "a1"


def upgrade():
    op.create_table("cities", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    pass
