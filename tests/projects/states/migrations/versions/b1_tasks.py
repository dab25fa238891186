"""tasks"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "b1", "a1"


def upgrade():
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id"), nullable=False),
    )


def downgrade():
    op.drop_table("tasks")
