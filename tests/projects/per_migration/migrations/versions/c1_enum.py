"""A value that the next revision uses."""

from alembic import op
import sqlalchemy as sa

revision = "c1"
down_revision = "b1"


def upgrade():
    op.execute("CREATE TYPE mood AS ENUM ('sad')")
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE mood ADD VALUE 'ok'")
    op.add_column("t", sa.Column("mood", sa.Enum("sad", "ok", name="mood", create_type=False)))


def downgrade():
    pass
