"""A column and an index whose names are cut, as they stand in a text."""

from alembic import op

revision = "b1"
down_revision = "a1"


def upgrade():
    op.execute("""
        ALTER TABLE letters_that_were_sent_to_customers_who_have_not_answered_for_a_year
        ADD COLUMN the_day_on_which_the_customer_has_first_been_asked_for_consent_to_it date
    """)
    op.execute("""
        CREATE INDEX ix_letters_that_were_sent_to_customers_by_the_day_of_their_first_one
        ON letters_that_were_sent_to_customers_who_have_not_answered_for_a_year
        (the_day_on_which_the_customer_has_first_been_asked_for_consent_to_it)
    """)


def downgrade():
    pass
