"""Plugin."""

from alembic import op
import sqlalchemy as sa

revision = "p1"
down_revision = None
branch_labels = ("plugin",)
depends_on = "a1"


def upgrade():
    op.execute("CREATE TABLE plugin (core_id int REFERENCES core)")


def downgrade():
    pass
