"""all"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision, down_revision = "a1", None


def upgrade():
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True))
    colours = op.create_table("colours", sa.Column("name", sa.Text, primary_key=True))
    names = Path("data/colours.csv").read_text().split()
    op.bulk_insert(colours, [{"name": name} for name in names])


def downgrade():
    op.drop_table("colours")
    op.drop_table("orders")
