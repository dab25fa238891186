"""Column of each tenant."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade(tenant):
    op.add_column("t", sa.Column("n", sa.Integer))


def downgrade():
    pass
