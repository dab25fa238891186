"""A view."""

from alembic import op

revision = "e1"
down_revision = "d1"


def upgrade():
    op.execute("CREATE VIEW names AS SELECT name FROM guests")


def downgrade():
    pass
