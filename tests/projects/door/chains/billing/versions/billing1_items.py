"""items of billing"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "billing1", None


def upgrade() -> None:
    op.create_table("billing_items", sa.Column("id", sa.Integer(), primary_key=True))
