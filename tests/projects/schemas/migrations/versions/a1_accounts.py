"""Accounts."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    op.execute("CREATE SCHEMA IF NOT EXISTS accounts")
    op.create_table(
        "users", sa.Column("id", sa.Integer, primary_key=True), schema="accounts"
    )


def downgrade():
    pass
