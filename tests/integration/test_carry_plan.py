"""What a carry decides before its first row: from two catalogs, and from the rows themselves."""

from __future__ import annotations

import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.carry import plan
from backset.catalog import columns
from backset.settings.rules import Rules
from backset.text import pasted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.carry.plan import CarryPlan
    from backset.servers.cluster import Cluster

    Decide = Callable[..., CarryPlan]

USERS = "CREATE TABLE users (id int PRIMARY KEY, name text)"
EVERYTHING = Rules()
ROWS = "; INSERT INTO users VALUES (1, 'One'), (2, NULL)"


@pytest.fixture
def decide(
    cluster: Cluster, superuser: psycopg.Connection[Any], database_url: str, name: str
) -> Iterator[Decide]:
    """A function that makes two databases and returns the plan from the one to the other."""
    other = f"{name}_new"
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(other)))

    def decided(old: str, new: str, rules: Rules = EVERYTHING) -> CarryPlan:
        with opened(database_url, old) as first, opened(cluster.url(other), new) as second:
            first.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return plan.decide(first, second, rules)

    yield decided
    superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(other)))


@contextmanager
def opened(url: str, statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a database, and make in it what the statements say."""
    with closing(psycopg.connect(url, autocommit=True)) as session:
        session.execute(statements.encode())
        yield session


def kinds(found: CarryPlan) -> list[tuple[str, str]]:
    """Return kind and name of each problem."""
    return [(each.kind, each.name) for each in found.problems]


def test_the_same_schema_carries_everything(decide: Decide) -> None:
    """Two tables of the same columns need no rule, and every row is counted."""
    found = decide(USERS + ROWS, USERS)
    assert kinds(found) == []
    (users,) = found.transfers
    assert (users.table, users.columns, users.rows) == (("public", "users"), ("id", "name"), 2)
    assert found.lines() == ["users 2"]


def test_what_has_no_place_must_be_agreed_to(decide: Decide) -> None:
    """A table and a column that are gone stop the run, with rows and values counted."""
    old = USERS + ROWS + "; CREATE TABLE gone (a int); INSERT INTO gone VALUES (1), (1), (1)"
    new = "CREATE TABLE users (id int PRIMARY KEY)"
    found = decide(old, new)
    assert kinds(found) == [("left behind", "gone"), ("left behind", "users.name")]
    assert "gone (3 rows)" in found.problems[0].what
    assert "users.name (1 value)" in found.problems[1].what
    assert '[tool.backset] leave = ["users.name"]' in found.problems[1].remedy
    agreed = decide("SELECT", "SELECT", Rules(leave=("users.name", "gone")))
    assert kinds(agreed) == []
    assert [str(each) for each in agreed.left] == ["gone (3 rows)", "users.name (1 value)"]
    assert kinds(decide("SELECT", "SELECT", Rules(drops=True))) == []


def test_empty_things_need_no_agreement(decide: Decide) -> None:
    """A table without rows, a column of NULLs and a generated column leave nothing behind."""
    old = (
        "CREATE TABLE gone (a int); CREATE TABLE users (id int, note text, twice int "
        "GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO users (id) VALUES (1)"
    )
    assert kinds(decide(old, "CREATE TABLE users (id int)")) == []


def test_a_renamed_column(decide: Decide) -> None:
    """A left column and a new one of its type are told as a renaming, whose line mends it."""
    new = "CREATE TABLE users (id int PRIMARY KEY, full_name text)"
    found = decide(USERS + ROWS, new)
    assert kinds(found) == [("left behind", "users.name")]
    assert '[tool.backset.rename] "users.full_name" = "users.name"' in found.problems[0].remedy
    rules = Rules(rename={"users.full_name": "users.name"})
    found = decide("SELECT", "SELECT", rules)
    assert kinds(found) == []
    assert found.transfers[0].columns == ("id", "full_name")
    # The rule stays in the settings when the database has been carried.
    again = decide("DROP TABLE users; " + new, "SELECT", rules)
    assert (kinds(again), again.transfers[0].columns) == ([], ("id", "full_name"))


@pytest.mark.parametrize("new_type", ["text NOT NULL", "varchar(20) NOT NULL", "text"])
def test_a_renaming_is_not_decided_for_the_user(decide: Decide, new_type: str) -> None:
    """Neither is the new column filled by default, nor the old one left behind."""
    found = decide(USERS + ROWS, f"CREATE TABLE users (id int PRIMARY KEY, full_name {new_type})")
    settings = [setting for each in found.problems for setting in each.settings]
    assert [(each.key, each.value) for each in settings if not pasted.is_open(each)] == []
    chosen = {each.table.rpartition(".")[2]: (each.key, each.value) for each in settings}
    assert chosen["rename"] == ('"users.full_name"', '"users.name"')
    assert chosen["backset"] == ("leave", ('"users.name"',))
    assert ("fill" in chosen) == ("NOT NULL" in new_type)
    assert "if it was renamed: [tool.backset.rename]" in found.problems[0].remedy


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text", "mood"),
        ("varchar(9)", "mood"),
        ("char(4)", "text"),
        ("int", "text"),
        ("mood", "text"),
    ],
)
def test_a_renaming_may_have_changed_the_type(decide: Decide, old: str, new: str) -> None:
    """Of texts that became an enum, or of numbers that became texts, nothing is decided either."""
    mood = "CREATE TYPE mood AS ENUM ('1', '2')"
    found = decide(
        f"{mood}; CREATE TABLE users (id int, was {old}); INSERT INTO users VALUES (1, '1')",
        f"{mood}; CREATE TABLE users (id int, becomes {new} NOT NULL)",
    )
    settings = [setting for each in found.problems for setting in each.settings]
    assert [each for each in settings if not pasted.is_open(each)] == []
    renamed = decide("SELECT", "SELECT", Rules(rename={"users.becomes": "users.was"}))
    assert kinds(renamed) == []


def test_of_several_new_columns_none_is_taken_for_the_old_one(decide: Decide) -> None:
    """Each may be it, the one first that is spelled like it; one of another kind may not."""
    new = "id int PRIMARY KEY, note text NOT NULL, full_name text NOT NULL, age int NOT NULL"
    found = decide(USERS + ROWS, f"CREATE TABLE users ({new})")
    left, *missing = found.problems
    assert [each.key for each in left.settings] == ['"users.full_name"', '"users.note"', "leave"]
    assert {each.name: pasted.is_open(each.settings[0]) for each in missing} == {
        "users.note": True, "users.full_name": True, "users.age": False,
    }  # fmt: skip
    agreed = decide("SELECT", "SELECT", Rules(leave=("users.name",)))
    assert [pasted.is_open(each.settings[0]) for each in agreed.problems] == [False] * 3


def test_a_table_may_have_been_renamed_too(decide: Decide) -> None:
    """What has most of its columns may be it; what has few of them is another one."""
    old = "CREATE TABLE users (id int, name text, mail text); INSERT INTO users VALUES (1)"
    new = "CREATE TABLE people (id int, name text, mail text); CREATE TABLE other (id int, x int)"
    (left,) = decide(old, new).problems
    assert left.name == "users"
    assert [(each.key, each.value) for each in left.settings] == [
        ('"people"', '"users"'), ("leave", ('"users"',)),
    ]  # fmt: skip
    assert all(map(pasted.is_open, left.settings))


def test_a_renamed_table(decide: Decide) -> None:
    """The rows of a table come under its new name."""
    rules = Rules(rename={"people": "users", "people.called": "users.name"})
    found = decide(USERS + ROWS, "CREATE TABLE people (id int, called text)", rules)
    assert kinds(found) == []
    assert [(t.source[1], t.table[1], t.rows) for t in found.transfers] == [("users", "people", 2)]


def test_a_new_column_that_must_have_a_value(decide: Decide) -> None:
    """NOT NULL without a default stops the run, with a filling that would do."""
    new = "CREATE TABLE users (id int PRIMARY KEY, name text, archived boolean NOT NULL)"
    found = decide(USERS + ROWS, new)
    assert kinds(found) == [("missing value", "users.archived")]
    assert found.problems[0].remedy == '[tool.backset.fill] "users.archived" = "false"'
    found = decide("SELECT", "SELECT", Rules(fill={"users.archived": "id > 1"}))
    assert (kinds(found), found.transfers[0].columns[-1]) == ([], "archived")
    assert kinds(decide("TRUNCATE users", "SELECT")) == []  # no row needs one


def test_a_filling_never_replaces_values_unseen(decide: Decide) -> None:
    """Where the old table has the column already, its own values are carried."""
    new = "CREATE TABLE users (id int PRIMARY KEY, name text)"
    rules = Rules(fill={"users.name": "'anonymous'"})
    assert b"anonymous" not in text_of(decide(USERS + ROWS, new, rules))
    assert b"anonymous" in text_of(decide("SELECT", "SELECT", replace(rules, drops=True)))
    assert b"upper(name)" in text_of(
        decide("SELECT", "SELECT", Rules(fill={"users.name": "upper(name)"}))
    )


CUT = [  # the type of the new column, an expression, whether it loses something there
    ("varchar(5)", "'toolong'", True),
    ("varchar(5)", "'short'", False),
    ("varchar(5)", "'toolong'::varchar(5)", False),
    ("varchar(5)[]", "ARRAY['toolong', name]", True),
    ("char(3)", "'ab  '", False),
    ("char(3)", "'abcd'", True),
    ("bit(3)", "'1010'", True),
    ("numeric(4,1)", "1.25", True),
    ("numeric(4,1)", "1.5", False),
    ("numeric(3,2)", "round(random()::numeric, 2)", False),
    ("timestamp(0)", "'2025-01-01 12:00:00.5'", True),
    ("int", "id * 1.5", True),
    ("int", "round(id * 1.5)", False),
    ("int", "true", False),
    ("int", "'5'", False),
    ("brief", "'toolong'", True),
    ("date", "now()", False),
]


def test_a_filling_is_not_cut(decide: Decide) -> None:
    """A value that a cast to the new column's type would cut or round is told before any row."""
    names = [f"c{number}" for number in range(len(CUT))]
    columns = ", ".join(f"{name} {each[0]}" for name, each in zip(names, CUT, strict=True))
    new = f"CREATE DOMAIN brief AS varchar(5); CREATE TABLE users (id int, name text, {columns})"
    fill = {f"users.{name}": each[1] for name, each in zip(names, CUT, strict=True)}
    found = decide(USERS + ROWS, new, Rules(fill=fill))
    told = dict.fromkeys(names, False) | {each.name[6:]: True for each in found.problems}
    assert [(name, told[name]) for name in names] == [
        (name, each[2]) for name, each in zip(names, CUT, strict=True)
    ]
    assert {each.kind for each in found.problems} == {"lossy type"}
    agreed = '[tool.backset.fill] "users.c0" = "(\'toolong\')::character varying(5)"'
    assert found.problems[0].remedy == f"if that is meant: {agreed}"


MENTIONED = [  # a column of the old table, an expression that does not use it
    ("note", "'no note given'"),
    ("date", "'2020-01-01'::date::text"),
    ("text", "lower('X')::text"),
    ("lower", "lower('X')"),
    ("note", "(SELECT note FROM (SELECT 1 AS note) AS t)::text"),
    ("note", "'note' || public.ks.status"),
    ("ks", "'ks ' || ks.status"),
    ("status", "ctid::text || 'status'"),
]
USED = [  # the same, with one that uses it
    ("name", "coalesce(NAME, 'x')"),
    ("Name", "coalesce(\"Name\", 'x')"),
    ('a"b', 'upper("a""b")'),
    ("date", "lower(ks.date)"),
    ("ks", "ks"),
    ("note", "(SELECT note || n FROM generate_series(1, 1) AS n)"),
]


@pytest.mark.parametrize(("column", "expression"), [*MENTIONED, *USED])
def test_what_a_filling_uses(decide: Decide, column: str, expression: str) -> None:
    """The server tells it; a word in a string, a function or a type is no column.

    One that is not used does not vanish unseen, and is not replaced unseen.
    """
    names = {"id": "int", "status": "text", column: "text"}
    quoted = ", ".join('"{}" {}'.format(k.replace('"', '""'), v) for k, v in names.items())
    filled = ", ".join(["1", *["'meant'"] * (len(names) - 1)])
    old = f"CREATE TABLE ks ({quoted}); INSERT INTO ks VALUES ({filled})"
    new = "CREATE TABLE ks (id int, status text, kind text NOT NULL)"
    is_used = (column, expression) in USED
    found = decide(old, new, Rules(fill={"ks.kind": expression}))
    lost = [] if is_used or column == "status" else [("left behind", f"ks.{column}")]
    assert kinds(found) == lost
    rules = Rules(fill={f"ks.{column}": expression})
    found = decide("SELECT", f"DROP TABLE ks; CREATE TABLE ks ({quoted})", rules)
    assert kinds(found) == []
    assert (column in found.transfers[0].filled) is is_used
    assert any("not filled, since" in line and column in line for line in found.assumed) is (
        not is_used
    )


def test_a_filling_instead_of_values_that_do_not_fit(decide: Decide) -> None:
    """The advice leads out: the filling does nothing, until the old values may be left behind."""
    old = "CREATE TABLE users (id int, age text); INSERT INTO users VALUES (1, 'n/a'), (2, NULL)"
    new = "CREATE TABLE people (id int, years int NOT NULL)"
    renamed = {"people": "users", "people.years": "users.age"}
    rules = Rules(rename=renamed, fill={"people.years": "0"}, leave=("other",))
    found = decide(old, new, rules)
    assert kinds(found) == [("impossible type", "people.years"), ("missing value", "people.years")]
    told, null = found.problems
    assert told.remedy == (
        "0 in [tool.backset.fill] does not use the old values: "
        'to leave these behind, add [tool.backset] leave = ["users.age"]'
    )
    (setting,) = told.settings
    assert (setting.already, setting.value) == (('"other"',), ('"users.age"',))
    assert "coalesce(age::integer, 0)" in null.remedy
    found = decide("SELECT", "SELECT", replace(rules, leave=("users.age",)))
    assert kinds(found) == []
    assert found.transfers[0].filled == {"years"}


def test_a_column_that_is_generated_now(decide: Decide) -> None:
    """It is not said to be missing in the new schema."""
    new = "CREATE TABLE users (id int, name text GENERATED ALWAYS AS ('No. ' || id::text) STORED)"
    found = decide(USERS + ROWS, new.replace("id::text", "chr(id + 48)"))
    assert kinds(found) == [("left behind", "users.name")]
    assert found.problems[0].what == (
        "users.name (1 value): the column is generated in the new schema"
    )
    assert found.problems[0].remedy == '--drop-data, or [tool.backset] leave = ["users.name"]'


def text_of(found: CarryPlan) -> bytes:
    """Return the query of the only table."""
    (transfer,) = found.transfers
    return transfer.query.as_bytes(None)


@pytest.mark.parametrize(
    ("expression", "words"),
    [("nme", "does not exist"), ("1/0", "division by zero"), ("'", "unterminated")],
)
def test_a_filling_that_fails(decide: Decide, expression: str, words: str) -> None:
    """An expression that is no SQL, or fails on a row, is told with the server's words."""
    new = "CREATE TABLE users (id int, name text, extra int)"
    found = decide(USERS + ROWS, new, Rules(fill={"users.extra": expression}))
    assert kinds(found) == [("failing rule", "users.extra")]
    assert words in found.problems[0].what


def test_a_column_that_became_not_null(decide: Decide) -> None:
    """The rows with NULL are counted, and coalesce is what mends them."""
    new = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL)"
    found = decide(USERS + ROWS, new)
    assert kinds(found) == [("missing value", "users.name")]
    assert "1 row would have NULL" in found.problems[0].what
    line = found.problems[0].remedy
    assert line == '[tool.backset.fill] "users.name" = "coalesce(name, \'\')"'
    assert kinds(decide("SELECT", "SELECT", Rules(fill={"users.name": "coalesce(name, '')"}))) == []


TYPES = [  # old, value, new, kind of the problem
    ("int", "1", "bigint", ""),
    ("bigint", "1", "int", ""),
    ("bigint", "5000000000", "int", "impossible type"),
    ("int", "1", "text", ""),
    ("text", "12", "int", ""),
    ("text", "secret", "int", "impossible type"),
    ("varchar(20)", "pending", "varchar(9)", ""),
    ("varchar(20)", "a long status", "varchar(9)", "lossy type"),
    ("text", "x", "varchar", ""),
    ("numeric(12,6)", "1.500000", "numeric(8,2)", ""),
    ("numeric(12,6)", "1.505", "numeric(8,2)", "lossy type"),
    ("numeric(8,2)", "1.50", "numeric(12,6)", ""),
    ("float8", "0.5", "float4", ""),
    ("float8", "0.1", "float4", "lossy type"),
    ("timestamp", "2025-01-01", "timestamptz", ""),
    ("timestamptz", "2025-01-01 12:00+02", "timestamp", ""),
    ("date", "2025-01-01", "timestamptz", ""),
    ("timestamptz", "2025-01-01 12:00+02", "date", "lossy type"),
    ("time", "12:00", "timetz", "doubtful type"),
    ("date", "2025-01-01", "timestamp", ""),
    ("timestamp", "2025-01-01 12:00", "date", "lossy type"),
    ("json", '{"b": 1,  "a": [{"b": "\\u00e9"}, 1.0, null]}', "jsonb", ""),
    ("json", '[{"a": {"b": 1, "c": 2, "b": 3}}]', "jsonb", "lossy type"),
    ("json", '"\\u0000"', "jsonb", "impossible type"),
    ("json[]", '{"{\\"a\\": 1}",3}', "jsonb[]", ""),
    ("json[]", '{"{\\"a\\": 1, \\"a\\": 2}"}', "jsonb[]", "lossy type"),
    ("jsonb", '{"a": 1}', "json", ""),
    ("numeric(10,2)[]", "{1.25}", "numeric(12,1)[]", "lossy type"),
    ("numeric(10,2)[]", "{{1.50}}", "numeric(12,1)[]", ""),
    ("cents", "{1.25}", "numeric(12,1)[]", "lossy type"),
    ("varchar(20)[]", "{pending}", "varchar(9)[]", ""),
    ("varchar(20)[]", "{a long status}", "varchar(9)[]", "lossy type"),
    ("timestamp(3)[]", "{2025-01-01 00:00:00.125}", "timestamp(1)[]", "lossy type"),
    ("timestamp[]", "{2025-01-01}", "timestamptz[]", ""),
    ("time[]", "{12:00}", "timetz[]", "doubtful type"),
    ("mood", "ok", "text", ""),
    ("text", "ok", "mood", ""),
    ("text", "grand", "mood", "lossy type"),
    ("mood", "ok", "smaller", ""),
    ("mood", "sad", "smaller", "lossy type"),
    ("mood[]", "{ok,sad}", "smaller[]", "lossy type"),
    ("mood[]", "{{ok,NULL}}", "smaller[]", ""),
    ("text[]", "{ok}", "smaller[]", ""),
    ("smaller[]", "{ok}", "mood[]", ""),
    ("int[]", "{1,2}", "bigint[]", ""),
    ("pair", "(1,2)", "text", ""),
    ("pair", "(1,2)", "int", "impossible type"),
    ("positive", "1", "int", ""),
    ("int", "1", "positive", ""),
    ("boolean", "t", "int", ""),
    ("uuid", "7bd1e3f2-0b5c-4c4e-9d4e-2f4c5a9b6c11", "bytea", "impossible type"),
]
MADE = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE smaller AS ENUM ('ok'); "
    "CREATE TYPE pair AS (a int, b int); CREATE DOMAIN positive AS int CHECK (VALUE > 0); "
    "CREATE DOMAIN cents AS numeric(10,2)[]; "
)


def test_changed_types(decide: Decide) -> None:
    """The values themselves decide whether a change of type loses anything."""
    old = [
        f"CREATE TABLE t{number} (a {before}); INSERT INTO t{number} VALUES ('{text}'), (NULL); "
        for number, (before, text, _, _) in enumerate(TYPES)
    ]
    new = [f"CREATE TABLE t{number} (a {after}); " for number, (_, _, after, _) in enumerate(TYPES)]
    found = decide(MADE + "".join(old), MADE + "".join(new))
    problems = {each.name: each for each in found.problems}
    told = [
        (*each[:3], problems[f"t{number}.a"].kind if f"t{number}.a" in problems else "")
        for number, each in enumerate(TYPES)
    ]
    assert told == TYPES
    for name, problem in problems.items():
        text = TYPES[int(name[1:-2])][1]
        assert f'[tool.backset.fill] "{name}" = ' in problem.remedy
        assert len(text) < 4 or text not in str(problem), "a value may be a secret"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("text", "date"),
        ("text", "varchar(9)"),
        ("text", "numeric(4,1)"),
        ("text", "interval"),
        ("int", "bigint"),
        ("int[]", "text[]"),
        ("text", "mood"),
    ],
)
def test_the_line_for_a_null_works_as_it_is(decide: Decide, before: str, after: str) -> None:
    """Whatever the type is, and whatever it was: the value that is proposed is one of it."""
    old = f"{MADE}CREATE TABLE t (a {before}); INSERT INTO t VALUES (NULL)"
    (problem,) = decide(old, f"{MADE}CREATE TABLE t (a {after} NOT NULL)").problems
    (setting,) = problem.settings
    value = tomllib.loads(f"it = {setting.value}")["it"]
    assert decide("SELECT", "SELECT", Rules(fill={"t.a": value})).problems == ()


def test_the_labels_that_an_enum_has_lost(decide: Decide) -> None:
    """Those that rows have are named, and put into the line that mends it."""
    table = "CREATE TYPE mood AS ENUM ({}); CREATE TABLE users (m mood, ms mood[])"
    rows = "INSERT INTO users VALUES ('meh', '{ok,meh}'), ('it''s', '{NULL}'), ('ok', NULL)"
    old = table.format("'ok', 'meh', 'it''s', 'bad'") + "; " + rows
    found = decide(old, table.format("'ok'"))
    assert [each.what for each in found.problems] == [
        "2 values of users.m do not fit: public.mood has no 'meh', 'it''s'",
        "1 value of users.ms does not fit: public.mood[] has no 'meh'",
    ]
    m = "CASE m::text WHEN 'meh' THEN 'ok' WHEN 'it''s' THEN 'ok' ELSE m::text END"
    ms = "array_replace(ms::text[], 'meh', 'ok')"
    fill = {"users.m": m, "users.ms": ms}
    assert [each.remedy for each in found.problems] == [
        f'[tool.backset.fill] "{name}" = "{expression}"' for name, expression in fill.items()
    ]
    assert kinds(decide("SELECT", "SELECT", Rules(fill=fill))) == []


def test_a_changed_type_of_a_column_without_a_value(decide: Decide) -> None:
    """There is nothing to lose, whether or not there is a cast; the server takes the query."""
    old = "CREATE TABLE z (id int, tr tsrange, m pair, t time)"
    new = "CREATE TABLE z (id int, tr tstzrange, m mood, t timetz DEFAULT now()::timetz)"
    found = decide(f"{MADE}{old}; INSERT INTO z VALUES (1)", MADE + new)
    assert kinds(found) == []
    assert "z.tr: tsrange → tstzrange, without a value" in found.notes
    assert b"NULL::text, NULL::text, NULL::text" in text_of(found)
    assert kinds(decide("TRUNCATE z", "SELECT")) == []
    assert b"NULL::text, NULL::text, NULL::text" in text_of(decide("SELECT", "SELECT"))
    found = decide("INSERT INTO z VALUES (2)", "ALTER TABLE z ALTER tr SET NOT NULL")
    assert kinds(found) == [("missing value", "z.tr")]
    rules = Rules(fill={"z.tr": "tstzrange(now(), NULL)"})
    assert kinds(decide("SELECT", "SELECT", rules)) == []
    assert kinds(decide("UPDATE z SET tr = 'empty', t = '12:00'", "SELECT", rules)) == [
        ("impossible type", "z.tr"),
        ("doubtful type", "z.t"),
    ]


def test_a_table_without_a_common_column(decide: Decide) -> None:
    """Its rows are left behind as a whole."""
    found = decide(USERS + ROWS, "CREATE TABLE users (key uuid)")
    assert kinds(found) == [("left behind", "users")]


def test_some_tables_alone(decide: Decide) -> None:
    """The others are not looked at, but what rows refer to must be there."""
    tasks = "CREATE TABLE tasks (id int, user_id int REFERENCES users)"
    old = f"{USERS}{ROWS}; {tasks}; INSERT INTO tasks VALUES (1, 1); CREATE TABLE z AS SELECT 1"
    assert kinds(decide(old, f"{USERS}; {tasks}", Rules(tables=("users",)))) == []
    found = decide("SELECT", "SELECT", Rules(tables=("tasks",)))
    assert kinds(found) == [("missing parent", "tasks")]
    assert found.problems[0].remedy == "--carry tasks,users"
    assert (
        kinds(decide("UPDATE tasks SET user_id = NULL", "SELECT", Rules(tables=("tasks",)))) == []
    )


def test_unknown_names(decide: Decide) -> None:
    """A rule that means nothing is told, and so is a table that nobody has."""
    rules = Rules(tables=("usres",), rename={"users.b": "users.c"}, fill={"x.y": "1"})
    found = decide(USERS, USERS, rules)
    assert {each.name for each in found.problems} == {"usres", "users.b", "users.c", "x.y"}
    assert {each.kind for each in found.problems} == {"unknown name"}


def test_names_that_need_quotes(decide: Decide) -> None:
    """Schemas, tables and columns of any name."""
    table = 'CREATE SCHEMA "Ö.x"; CREATE TABLE "Ö.x"."a ""b%s" ("c.d{}" int, "%" text)'
    found = decide(f'{table}; INSERT INTO "Ö.x"."a ""b%s" VALUES (1, 2)', table)
    assert kinds(found) == []
    assert found.transfers[0].columns == ("c.d{}", "%")


def test_large_objects_are_left_behind(decide: Decide) -> None:
    """They are in no table, and nobody should believe that they came."""
    found = decide(USERS + "; SELECT lo_create(0)", USERS)
    assert kinds(found) == [("left behind", "the large objects")]


def test_rows_that_the_role_may_not_read(
    decide: Decide, superuser: psycopg.Connection[Any]
) -> None:
    """Row security that would hide rows stops the run."""
    role = "carry_reader"
    superuser.execute(f"CREATE ROLE {role}".encode())
    try:
        old = (
            f"{USERS}{ROWS}; ALTER TABLE users ENABLE ROW LEVEL SECURITY; "
            f"GRANT SELECT ON users TO {role}; SET ROLE {role}"
        )
        (hidden,) = decide(old, USERS).problems
        assert (hidden.kind, hidden.name) == ("unreadable rows", "users")
        assert "ALTER ROLE … BYPASSRLS" in hidden.remedy
        assert "GRANT SELECT" not in hidden.remedy
        decide("DROP OWNED BY " + role, "SELECT")
    finally:
        superuser.execute(f"DROP ROLE {role}".encode())


WIDE = f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'c{each} int' for each in range(400))})"


def test_a_table_that_grows_while_it_is_read_has_all_its_columns(database_url: str) -> None:
    """Whoever writes meanwhile: no column of an old table is taken for one that it does not have.

    The size of the table is another one for each column then.
    """
    over = threading.Event()

    def grow() -> None:
        with closing(psycopg.connect(database_url, autocommit=True)) as session:
            first = 0
            while not over.is_set():
                first += 100
                rows = f"SELECT i FROM generate_series({first}, {first} + 99) AS i"
                session.execute(f"INSERT INTO t (id) {rows}".encode())

    with opened(database_url, WIDE) as session, ThreadPoolExecutor(1) as beside:
        growing = beside.submit(grow)
        try:
            sizes: set[int] = set()
            while len(sizes) < 10:
                (table,) = columns.read(session).values()
                sizes.add(table.size_bytes)
                assert len(table.columns) == 401
        finally:
            over.set()
        growing.result()
