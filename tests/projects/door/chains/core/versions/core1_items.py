"""items of core"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "core1", None


def upgrade() -> None:
    op.create_table("core_items", sa.Column("id", sa.Integer(), primary_key=True))
