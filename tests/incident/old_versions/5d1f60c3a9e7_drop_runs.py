"""Drop runs.

Revision: 5d1f60c3a9e7
Revises: 002_add_unified_tasks
"""

from alembic import op

revision = "5d1f60c3a9e7"
down_revision = "002_add_unified_tasks"


def upgrade() -> None:
    op.drop_index("ix_runs_created_at", table_name="runs")
    op.drop_index("ix_runs_status", table_name="runs")
    op.drop_index("ix_runs_user_id", table_name="runs")
    op.drop_table("runs")


def downgrade() -> None:
    pass
