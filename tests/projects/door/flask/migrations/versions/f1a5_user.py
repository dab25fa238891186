"""user"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "f1a5", None


def upgrade() -> None:
    op.create_table(
        "user",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("email", sa.String(length=80), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("user")
