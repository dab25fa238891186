"""All."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("email", sa.String(320)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    with op.batch_alter_table("users") as users:
        users.create_unique_constraint(op.f("uq_users_email"), ["email"])
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True, unique=True),
        sa.Column("text", sa.String(99)),  # compare_type says that this does not matter
    )
    op.execute("CREATE TABLE legacy_things (id int)")


def downgrade():
    pass
