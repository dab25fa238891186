"""Add unified tasks: tasks and task_outputs, which take over from runs.

Revision: 002_add_unified_tasks
Revises: 001_current_schema
"""

import sqlalchemy as sa
from alembic import op

revision = "002_add_unified_tasks"
down_revision = "001_current_schema"


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("github_url", sa.String(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("variations", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime()),
        sa.Column("user_id", sa.String(), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("results", sa.JSON()),
    )
    op.create_index("ix_tasks_created_at", "tasks", ["created_at"])
    op.create_index("ix_tasks_status", "tasks", ["status"])
    op.create_table(
        "task_outputs",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("task_id", sa.Integer(), sa.ForeignKey("tasks.id"), nullable=False),
        sa.Column("variation_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(), nullable=False),
        sa.Column("output_type", sa.String(), nullable=False),
    )
    op.create_index("ix_task_outputs_task_id", "task_outputs", ["task_id"])


def downgrade() -> None:
    op.drop_table("task_outputs")
    op.drop_table("tasks")
