import sqlalchemy as sa

COLUMN = "the_day_on_which_the_customer_has_first_been_asked_for_consent_to_it"
TABLE = "letters_that_were_sent_to_customers_who_have_not_answered_for_a_year"
INDEX = "ix_letters_that_were_sent_to_customers_by_the_day_of_their_first_one"
UNIQUE = "uq_letters_that_were_sent_to_customers_by_the_code_that_is_in_them_all"
ENUM = "how_a_letter_was_sent_to_a_customer_who_has_not_answered_for_a_year"

metadata = sa.MetaData()
sa.Table(
    TABLE,
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(COLUMN, sa.Date),
    sa.Column("code", sa.Text),
    sa.Column("sent_by", sa.Enum("post", "mail", name=ENUM)),
    sa.UniqueConstraint("code", name=UNIQUE),
)
sa.Index(INDEX, metadata.tables[TABLE].c[COLUMN])
