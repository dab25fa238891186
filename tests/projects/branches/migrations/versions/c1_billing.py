"""Bills, which refer to keys."""

from alembic import op
import sqlalchemy as sa

revision = "c1"
down_revision = "a1"
branch_labels = ["billing"]
depends_on = "b1"


def upgrade():
    op.execute("CREATE TABLE bills (key_id int REFERENCES keys)")


def downgrade():
    pass
