"""All of it, under the id of the first one."""

import sqlalchemy as sa
from alembic import op

revision = "r1"
down_revision = None


def upgrade():
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
    )
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    pass
