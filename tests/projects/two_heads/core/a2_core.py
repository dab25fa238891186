"""More core."""

from alembic import op
import sqlalchemy as sa

revision = "a2"
down_revision = "a1"


def upgrade():
    op.add_column("core", sa.Column("name", sa.Text))


def downgrade():
    pass
