"""Remove legacy runs: what the revision before it did already, so it can never run.

Revision: 8b72e4d91c05
Revises: 5d1f60c3a9e7
"""

from alembic import op

revision = "8b72e4d91c05"
down_revision = "5d1f60c3a9e7"


def upgrade() -> None:
    op.drop_index("ix_runs_created_at", table_name="runs")
    op.drop_index("ix_runs_status", table_name="runs")
    op.drop_index("ix_runs_user_id", table_name="runs")
    op.drop_table("runs")


def downgrade() -> None:
    pass
