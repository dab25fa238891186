"""Partitions."""

from alembic import op
import sqlalchemy as sa

revision = "d1"
down_revision = "c1"


def upgrade():
    op.execute("CREATE TABLE events (id int, day date) PARTITION BY RANGE (day)")
    op.execute("CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    op.execute("CREATE TABLE events_rest PARTITION OF events DEFAULT")
    op.execute("INSERT INTO events VALUES (1, '2024-05-05'), (2, '2030-01-01')")


def downgrade():
    pass
