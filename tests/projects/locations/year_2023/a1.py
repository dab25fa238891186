"""Old years."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    op.create_table("books", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    pass
