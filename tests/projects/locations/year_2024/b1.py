"""New years."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    op.add_column("books", sa.Column("title", sa.Text))


def downgrade():
    pass
