"""Both databases."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name):
    pass


def upgrade_accounts():
    op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))


def upgrade_billing():
    op.create_table("bills", sa.Column("id", sa.Integer, primary_key=True))
