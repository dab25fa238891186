"""Index, while others write."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("t_n", "t", ["n"], postgresql_concurrently=True)


def downgrade():
    pass
