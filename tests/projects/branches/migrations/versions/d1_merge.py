"""Join both branches."""

from alembic import op
import sqlalchemy as sa

revision = "d1"
down_revision = ("b2", "c1")


def upgrade():
    pass


def downgrade():
    pass
