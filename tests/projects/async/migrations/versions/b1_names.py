"""Names, from what is there."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    op.add_column("users", sa.Column("name", sa.Text))
    count = op.get_bind().execute(sa.text("SELECT count(*) FROM users WHERE id > :low"), {"low": 0})
    op.execute(sa.text("UPDATE users SET name = :name").bindparams(name=f"one of {count.scalar()}"))


def downgrade():
    pass
