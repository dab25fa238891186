"""The application's tables: what the migrations must produce, and nothing else."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, get_args

from sqlalchemy import (
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    MetaData,
    Numeric,
    Text,
    false,
    func,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

GeneratedId = Annotated[int, mapped_column(Identity(), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.now())]
UpdatedAt = Annotated[datetime, mapped_column(server_default=func.now(), onupdate=func.now())]
TaskStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class Base(DeclarativeBase):
    """What every table shares: types, and constraint names that a migration can drop by name."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: DateTime(timezone=True),
        Decimal: Numeric(12, 6),
        dict[str, Any]: JSONB(none_as_null=True),
    }


class User(Base):
    """Someone who signs in, with GitHub or by email."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    is_active: Mapped[bool] = mapped_column(server_default=true())
    is_superuser: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    github_id: Mapped[str | None] = mapped_column(unique=True)
    github_username: Mapped[str | None] = mapped_column(index=True)
    name: Mapped[str | None]
    company: Mapped[str | None]
    max_runs_per_day: Mapped[int] = mapped_column(server_default="100")
    max_variations_per_run: Mapped[int] = mapped_column(server_default="5")


class Task(Base):
    """One prompt about one repository, answered in one or more variations."""

    __tablename__ = "tasks"

    id: Mapped[GeneratedId]
    github_url: Mapped[str] = mapped_column(index=True)
    prompt: Mapped[str]
    agent_mode: Mapped[str] = mapped_column(server_default="claude-cli")
    variations: Mapped[int] = mapped_column(server_default="1")
    model_configs: Mapped[dict[str, Any] | None]
    # Text and a CHECK, not a native enum: an enum type outlives DROP TABLE and breaks the next
    # upgrade, and cannot lose a value. `alembic check` sees neither an added enum value nor a
    # changed CHECK, so a test compares the CHECK itself.
    status: Mapped[TaskStatus] = mapped_column(
        Enum(*get_args(TaskStatus), name="status", native_enum=False, create_constraint=True),
        server_default="pending",
        index=True,
    )
    archived: Mapped[bool] = mapped_column(server_default=false(), index=True)
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
    updated_at: Mapped[UpdatedAt]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    results: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    error_message: Mapped[str | None]
    total_tokens_used: Mapped[int | None]
    total_cost_usd: Mapped[Decimal | None]
    internal_run_id: Mapped[str | None]


class TaskOutput(Base):
    """One piece of what a variation of a task wrote, in the order of its timestamp."""

    __tablename__ = "task_outputs"

    id: Mapped[GeneratedId]
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    variation_id: Mapped[int] = mapped_column(index=True)
    content: Mapped[str]
    timestamp: Mapped[CreatedAt] = mapped_column(index=True)
    output_type: Mapped[str] = mapped_column(server_default="stdout")
