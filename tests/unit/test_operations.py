"""A script's text tells what it makes and drops, without being run, and tells nothing untrue."""

from __future__ import annotations

import pytest

from backset.revisions.operations import Operation, in_the_way, read, standing


def script(body: str) -> str:
    """Return a migration with these statements."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"revision = 'a'\ndef upgrade():\n{lines}\ndef downgrade():\n    op.drop_table('t')\n"


def shown(operation: Operation) -> str:
    """Return an operation in short."""
    sign = "+" if operation.makes else "-"
    return f"{sign}{operation.kind} {operation.name}{'?' if operation.optional else ''}"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("op.create_table('t', sa.Column('id', sa.Integer()))", ["+table t", "+column t.id"]),
        ("op.create_table('t', schema='audit')", ["+table audit.t"]),
        ("op.create_table('t', schema='public')", ["+table t"]),
        ("op.create_table('t', if_not_exists=True)", ["+table t?"]),
        ("op.create_table(name)", []),
        ("if new:\n    op.create_table('t')", ["+table t?"]),
        ("op.add_column('t', sa.Column('c'))", ["+column t.c"]),
        ("op.drop_column('t', 'c')", ["-column t.c"]),
        (
            "with op.batch_alter_table('t') as batch:\n    batch.add_column(sa.Column('c'))",
            ["+column t.c"],
        ),
        ("op.create_index(op.f('ix'), 't', ['c'])", ["+index ix"]),
        ("op.rename_table('old', 'new')", ["-table old", "+table new"]),
        ("op.execute('CREATE TABLE IF NOT EXISTS t (id int)')", ["+table t?"]),
        ('op.execute(sa.text("create table public.t ()"))', ["+table t"]),
        (
            "op.execute('CREATE UNIQUE INDEX CONCURRENTLY ix ON t (c); DROP TABLE \"Old\"')",
            ["+index ix", "-table Old"],
        ),
        ("op.execute('ALTER TABLE s.a RENAME TO b')", ["-table s.a", "+table s.b"]),
        ("op.execute('ALTER TABLE t ADD COLUMN c int')", ["+column t.c"]),
        ("op.add_column('t', Column('c'))", ["+column t.c"]),
        ("add_column('t', Column('c'))", ["+column t.c"]),
        ("op.execute('CREATE TYPE mood AS ENUM ()')", ["+type mood"]),
        ("op.execute(\"ALTER TYPE s.mood ADD VALUE 'sad'\")", ["+value s.mood.sad"]),
        ("op.execute(\"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'sad'\")", ["+value mood.sad?"]),
        ("op.execute('CREATE MATERIALIZED VIEW v AS SELECT 1')", ["+view v"]),
        ("op.execute('CREATE OR REPLACE VIEW v AS SELECT 1')", []),
        ("op.execute('CREATE DOMAIN d AS int; CREATE SEQUENCE s')", ["+domain d", "+sequence s"]),
        ("op.execute('DO $$ BEGIN CREATE TABLE t (); END $$')", []),
        ("op.execute(f'CREATE TABLE {name} ()')", []),
    ],
)
def test_what_a_script_does(body: str, found: list[str]) -> None:
    """Only what stands there literally, in `upgrade` alone; a condition is not a promise."""
    assert [shown(each) for each in read(script(body))] == found


def test_functions_that_upgrade_calls_are_read_where_they_are_called() -> None:
    """Some templates have one function for each database."""
    text = "def tables():\n    op.create_table('t')\n" + script("tables()\nop.drop_table('t')")
    assert [shown(each) for each in read(text)] == ["+table t", "-table t"]


def test_a_text_that_is_not_python_does_nothing() -> None:
    """A script of Python 2, or one half written."""
    assert read("print 'x'") == []


def test_what_stands_after_all_of_them() -> None:
    """A table takes its columns and indexes with it."""
    body = (
        "op.create_table('t', sa.Column('id'))\nop.create_index('ix', 't', ['id'])\n"
        "op.create_table('u')\nop.drop_table('t')"
    )
    made = standing(("a.py", each) for each in read(script(body)))
    assert made == {("table", "u"): ("a.py", 5)}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("op.create_table('t', sa.Column('id'))", ["+table t"]),
        ("op.drop_table('t')\nop.create_table('t')", []),
        ("op.create_table('t', if_not_exists=True)", []),
        ("op.add_column('t', sa.Column('id'))", ["+column t.id"]),
        ("op.create_table('new')", []),
    ],
)
def test_what_exists_already(body: str, told: list[str]) -> None:
    """What would fail when it is run, and nothing that makes room for itself first."""
    existing = {"table": {"t"}, "column": {"t.id"}, "index": set[str]()}
    operations = [("a.py", each) for each in read(script(body))]
    assert [shown(each) for _, each in in_the_way(operations, existing)] == told
