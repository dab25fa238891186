"""Keys of the API."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"
branch_labels = ("api",)


def upgrade():
    op.create_table("keys", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    pass
