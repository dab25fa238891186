"""What of a migration's text no schema shows."""

from __future__ import annotations

import pytest

from backset.revisions.operations import depends_on_rows, is_idle, shapes, speaks_of_rows

UP = "def upgrade():\n    "
RUN = UP + 'op.execute("%s")'
MERGE = 'revision, down_revision = "c", ("a", "b")\n'


@pytest.mark.parametrize(
    ("body", "idle"),
    [
        ("def upgrade(): pass", True),
        ('def upgrade() -> None:\n    """Join them."""\n    return', True),
        ("def upgrade(): ...", True),
        ("def upgrade():\n    op.execute('UPDATE t SET a = 1')", False),
        ("def upgrade():\n    pass\n    move_rows()", False),
        ("def upgrade():\n    return move_rows()", False),
        ("from shared import upgrade", False),
        ("def downgrade(): pass", False),
        ("def upgrade(:", False),
        ("", False),
    ],
)
def test_what_does_nothing(body: str, *, idle: bool) -> None:
    """Only a text that is seen to do nothing is idle; one that cannot be read may do anything."""
    assert is_idle(MERGE + body) == idle


@pytest.mark.parametrize(
    ("body", "speaks"),
    [
        ('def upgrade():\n    op.execute("INSERT INTO t VALUES (1)")', True),
        ("def upgrade():\n    op.execute('''update app.t as x\n set a = 1''')", True),
        ("def upgrade():\n    op.execute('delete from t')", True),
        ("def upgrade():\n    op.bulk_insert(table, rows)", True),
        ("def upgrade():\n    bind.execute(sa.update(table).values(a=1))", True),
        ("def upgrade():\n    session = Session(bind=op.get_bind())", True),
        ("SQL = 'INSERT INTO t SELECT 1'\ndef upgrade():\n    op.execute(SQL)", True),
        ("def upgrade():\n    op.create_table('t')", False),
        ("def upgrade():\n    op.add_column('t', sa.Column('update', sa.Date))", False),
        ("def upgrade(): pass\ndef downgrade():\n    op.execute('DELETE FROM t')", False),
        ("def upgrade(:", False),
    ],
)  # fmt: skip
def test_what_speaks_of_rows(body: str, *, speaks: bool) -> None:
    """A statement in the text or a call that makes one, but for what takes it back."""
    assert speaks_of_rows(MERGE + body) == speaks


@pytest.mark.parametrize(
    ("body", "depends"),
    [
        (RUN % "UPDATE users SET email = lower(email)", True),
        (RUN % "DELETE FROM t WHERE a = 1", True),
        (RUN % "INSERT INTO t SELECT a FROM u", True),
        (RUN % "CREATE TABLE t AS SELECT a FROM u", True),
        (RUN % "DO $$ BEGIN UPDATE t SET a = 1; END $$", True),
        (RUN % "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", True),
        (UP + "op.get_bind().execute(sa.update(t).values(a=1))", True),
        (UP + "with Session(op.get_bind()) as session:\n        rename(session)", True),
        (UP + "op.bulk_insert(t, [{'a': x} for x in bind.execute(sa.select(u.c.a))])", True),
        (RUN % "INSERT INTO t VALUES (1), (2)", False),
        (UP + "op.bulk_insert(t, [{'a': 1}])", False),
        (UP + "'Update the users, and set their names.'\n    op.add_column('t', c)", False),
        (RUN % "ALTER TABLE t ADD CHECK (a) ON UPDATE CASCADE ON DELETE SET NULL", False),
        (RUN % "CREATE FUNCTION f() RETURNS void AS $$ UPDATE t SET a = 1 $$", False),
        (RUN % "CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION f(); SET x = 1", False),
        (RUN % "CREATE VIEW v AS SELECT a FROM t", False),
        ("def upgrade(): pass\ndef downgrade():\n    op.execute('UPDATE t SET a = 1')", False),
    ],
)  # fmt: skip
def test_what_depends_on_rows(body: str, *, depends: bool) -> None:
    """What changes rows, or makes some of others; not what says the same over no rows at all."""
    assert depends_on_rows(MERGE + body) == depends


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (RUN % "INSERT INTO t VALUES ('O', 0)", False),
        (UP + "'Create the users.'\n    op.bulk_insert(sa.table('t', c), rows)", False),
        (UP + "op.get_bind().execute(sa.update(t).values(a=1))", False),
        (UP + "with Session(op.get_bind()) as session:\n        session.add(User())", False),
        ("def upgrade(): pass", False),
        (RUN % "INSERT INTO t VALUES (1); CREATE INDEX i ON t (a)", True),
        (UP + "op.bulk_insert(t, rows)\n    op.alter_column('t', 'a', nullable=False)", True),
        (UP + "kind.create(op.get_bind())\n    op.execute('UPDATE t SET a = 1')", True),
        (UP + "t = op.create_table('t')\n    op.bulk_insert(t, rows)", True),
        (UP + "move_rows()", True),
        ("from shared import upgrade", True),
        ("def upgrade(:", True),
    ],
)  # fmt: skip
def test_what_may_change_the_schema(body: str, *, may: bool) -> None:
    """All but what is seen to change rows alone, or to do nothing."""
    assert shapes(MERGE + body) == may
