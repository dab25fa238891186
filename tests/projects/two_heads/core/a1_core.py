"""Core."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None
branch_labels = ("core",)


def upgrade():
    op.create_table("core", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    pass
