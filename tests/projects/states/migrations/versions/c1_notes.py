"""notes"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "c1", "b1"


def upgrade():
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))
    with op.get_context().autocommit_block():
        op.create_index(
            "uq_users_name", "users", ["name"], unique=True, postgresql_concurrently=True
        )


def downgrade():
    op.drop_index("uq_users_name")
    op.drop_table("notes")
