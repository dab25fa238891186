"""View, materialized view."""

from alembic import op
import sqlalchemy as sa

revision = "c1"
down_revision = "b1"


def upgrade():
    op.execute("CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid'")
    op.execute("CREATE MATERIALIZED VIEW per_state AS SELECT state, count(*) FROM orders GROUP BY 1")
    op.execute("CREATE UNIQUE INDEX ON per_state (state)")


def downgrade():
    pass
