"""Orders of each tenant."""

import sqlalchemy as sa
from alembic import op

revision = "a1"
down_revision = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("state", sa.Enum("new", "paid", name="order_state")),
    )


def downgrade():
    op.drop_table("orders")
