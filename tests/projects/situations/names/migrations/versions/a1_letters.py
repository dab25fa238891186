"""Names that PostgreSQL cuts after 63 bytes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

TABLE = "letters_that_were_sent_to_customers_who_have_not_answered_for_a_year"
UNIQUE = "uq_letters_that_were_sent_to_customers_by_the_code_that_is_in_them_all"
ENUM = "how_a_letter_was_sent_to_a_customer_who_has_not_answered_for_a_year"

revision = "a1"
down_revision = None


def upgrade():
    op.execute(f"CREATE TYPE {ENUM} AS ENUM ('post', 'mail')")
    op.execute(f"CREATE TABLE {TABLE} (id serial PRIMARY KEY, code text)")
    op.add_column(TABLE, sa.Column("sent_by", postgresql.ENUM(name=ENUM[:63], create_type=False)))
    op.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {UNIQUE} UNIQUE (code)")


def downgrade():
    pass
