"""Initial clean schema: users, tasks and task_outputs, with nothing before it.

Revision: 0b228e9fec0b
Revises:
Created: 2025-07-20 09:00:00
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0b228e9fec0b"
down_revision: str | tuple[str, ...] | None = None
branch_labels: str | tuple[str, ...] | None = None
depends_on: str | tuple[str, ...] | None = None


def upgrade() -> None:
    """Create the three tables, each after the one that it refers to."""
    create_users()
    create_tasks()
    create_task_outputs()


def downgrade() -> None:
    """Drop the three tables, and their indexes with them."""
    op.drop_table("task_outputs")
    op.drop_table("tasks")
    op.drop_table("users")


def create_users() -> None:
    """Create users and its index."""
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_superuser", sa.Boolean(), server_default=sa.false(), nullable=False),
        timestamp_column("created_at"),
        timestamp_column("updated_at"),
        sa.Column("github_id", sa.Text()),
        sa.Column("github_username", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("company", sa.Text()),
        sa.Column("max_runs_per_day", sa.Integer(), server_default="100", nullable=False),
        sa.Column("max_variations_per_run", sa.Integer(), server_default="5", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("github_id", name=op.f("uq_users_github_id")),
    )
    op.create_index(op.f("ix_users_github_username"), "users", ["github_username"])


def create_tasks() -> None:
    """Create tasks, archived included, and its indexes."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("github_url", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("agent_mode", sa.Text(), server_default="claude-cli", nullable=False),
        sa.Column("variations", sa.Integer(), server_default="1", nullable=False),
        sa.Column("model_configs", postgresql.JSONB()),
        sa.Column("status", sa.String(9), server_default="pending", nullable=False),
        sa.Column("archived", sa.Boolean(), server_default=sa.false(), nullable=False),
        timestamp_column("created_at"),
        timestamp_column("updated_at"),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("results", postgresql.JSONB()),
        sa.Column("metadata", postgresql.JSONB()),
        sa.Column("error_message", sa.Text()),
        sa.Column("total_tokens_used", sa.Integer()),
        sa.Column("total_cost_usd", sa.Numeric(12, 6)),
        sa.Column("internal_run_id", sa.Text()),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_tasks_status"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tasks_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    for column in ("archived", "created_at", "github_url", "status", "user_id"):
        op.create_index(op.f(f"ix_tasks_{column}"), "tasks", [column])


def create_task_outputs() -> None:
    """Create task_outputs and its indexes."""
    op.create_table(
        "task_outputs",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("variation_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        timestamp_column("timestamp"),
        sa.Column("output_type", sa.Text(), server_default="stdout", nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_outputs_task_id_tasks")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_outputs")),
    )
    for column in ("task_id", "timestamp", "variation_id"):
        op.create_index(op.f(f"ix_task_outputs_{column}"), "task_outputs", [column])


def timestamp_column(name: str) -> sa.Column[datetime]:
    """Return a column that holds when its row was written, unless told otherwise."""
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
