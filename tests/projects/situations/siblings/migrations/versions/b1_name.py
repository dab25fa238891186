"""Needs, without saying so, what its sibling makes."""

from alembic import op

revision = "b1"
down_revision = "a1"


def upgrade():
    op.create_foreign_key("fk_city", "users", "cities", ["id"], ["id"])


def downgrade():
    pass
