"""Whether a project's migrations name a thing: where nothing does, it may be somebody else's."""

from __future__ import annotations

import pytest

from backset.catalog.sharing import mentions


@pytest.mark.parametrize(
    "text",
    [
        'op.create_table("note", sa.Column("id"), schema="audit")',
        "op.execute('CREATE SCHEMA audit')",
        "op.execute('create schema if not exists audit')",
        'op.execute("""CREATE SCHEMA "audit" """)',
        "op.execute('INSERT INTO audit.note VALUES (1)')",
        """op.execute('SELECT * FROM "audit"."note"')""",
    ],
)
def test_a_name_in_quotes_or_as_sql_has_it(text: str) -> None:
    """Qualified, or after the keyword that makes it."""
    assert mentions(text, "audit")


@pytest.mark.parametrize(
    "text",
    [
        "# an audit of this would be good",
        'op.create_table("audit_note")',
        "op.execute('CREATE SCHEMA audits')",
        "from app.audit import note",
        "x = my_audit.note",
    ],
)
def test_a_word_in_a_sentence_or_a_longer_name_is_none(text: str) -> None:
    """Else a platform's `auth` would be ours, since any text has such a word."""
    assert not mentions(text, "audit")


def test_a_name_that_regular_expressions_would_read_is_itself() -> None:
    """A schema may be called anything."""
    assert mentions("op.execute('CREATE SCHEMA \"a.c+\"')", "a.c+")
    assert not mentions("op.execute('CREATE SCHEMA abcc')", "a.c+")
