"""What of a migration's text no schema shows."""

from __future__ import annotations

import pytest

from backset.scripts.row_changes import is_idle, speaks_of_rows

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
