"""A value of the enum, which no downgrade takes away."""

from alembic import op

revision = "c1"
down_revision = "b1"


def upgrade():
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE mood ADD VALUE 'happy'")


def downgrade():
    pass
