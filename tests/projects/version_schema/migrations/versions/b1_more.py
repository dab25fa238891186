"""More."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    op.add_column("users", sa.Column("name", sa.Text))


def downgrade():
    pass
