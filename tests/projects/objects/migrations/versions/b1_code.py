"""Function with 100 % of its signs, trigger."""

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    op.execute("""
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.id % 2 = 0 THEN RAISE NOTICE '%% of %', NEW.id; END IF;
            NEW.touched := now(); RETURN NEW;
        END $$
    """)
    op.execute("CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()")


def downgrade():
    pass
