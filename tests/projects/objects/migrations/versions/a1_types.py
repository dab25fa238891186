"""Extension, enum, table."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("state", sa.Enum("new", "paid", name="order_state"), nullable=False),
        sa.Column("touched", sa.DateTime),
    )


def downgrade():
    pass
