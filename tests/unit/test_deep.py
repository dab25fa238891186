"""What is said of two catalogs, where Alembic and the hooks of env.py have had their word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backset.catalog.schema import Item
from backset.checks.deep import BEYOND, Catalogs, Said, compare, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TABLE = Item(kind="table", name="public.t")
ID = Item(
    kind="column",
    name="public.t.id",
    parent=TABLE.key,
    aspects={"type": "integer", "null": "forbidden", "position": "1"},
)


def part(kind: str, name: str, **aspects: str) -> Item:
    """Return a part of the table."""
    return Item(kind=kind, name=name, parent=TABLE.key, aspects=aspects)


def check(name: str, text: str) -> Item:
    """Return a constraint of the table."""
    return part("constraint", f"{name} on public.t", definition=text)


def numbers(name: str, type_: str = "integer", maximum: str = "9") -> Item:
    """Return the sequence of the column."""
    return part("sequence", f"public.{name}", type=type_, maximum=maximum, column="public.t.id")


def column(**aspects: str) -> Item:
    """Return the column, and what is otherwise in it."""
    return Item(kind="column", name=ID.name, parent=TABLE.key, aspects={**ID.aspects, **aspects})


def said_of(
    models: list[Item],
    database: list[Item],
    about: Sequence[Sequence[Any]] = (),
    excluded: Sequence[Sequence[Any]] = (),
) -> list[str]:
    """Return what is said of the two; what is beyond the models begins with a plus."""

    def keyed(items: list[Item]) -> Mapping[str, Item]:
        return {each.key: each for each in (TABLE, *items)}

    found = compare(
        Catalogs(keyed(models), keyed(database)), Said(about=about, excluded=excluded), lambda _: {}
    )
    return [f"{'+' * (each.kind == BEYOND)}{each.what}" for each in found.findings]


@pytest.mark.parametrize(
    ("models", "database"),
    [
        ([check("a", "X"), check("b", "X")], [check("c", "X"), check("d", "X")]),
        ([column(owner="me")], [column(owner="you")]),
        ([column(default="now()")], [column(default="CURRENT_TIMESTAMP")]),
        ([], [Item(kind="extension", name="pg_stat_statements")]),
        (
            [column(default="nextval('public.t_id_seq'::regclass)"), numbers("t_id_seq")],
            [column(default="nextval('public.old_id_seq'::regclass)"), numbers("old_id_seq")],
        ),
        (
            [column(default="nextval('public.t_id_seq'::regclass)"), numbers("t_id_seq")],
            [column(default="nextval('public.t_id_seq'::regclass)")],
        ),
    ],
    ids=[
        "names of constraints",
        "owners",
        "now",
        "an extension that could not be lent",
        "the sequence of a renamed table",
        "a sequence that another role owns",
    ],
)
def test_no_difference(models: list[Item], database: list[Item]) -> None:
    """Names that one side left to the server, and two words for one thing, are none."""
    assert said_of(models, database) == []


def test_what_follows_from_another_difference_is_not_said() -> None:
    """Of a sequence, what it has of its column; of an identity, that there is no default."""
    models = [column(), numbers("t_id_seq")]
    database = [column(type="bigint"), numbers("t_id_seq", "bigint", "99")]
    assert said_of(models, database) == [
        "column t.id: type is integer in the models, bigint in the database"
    ]
    models = [column(default="nextval('public.t_id_seq'::regclass)"), numbers("t_id_seq")]
    assert said_of(models, [column(identity="always")]) == [
        "column t.id: identity is none in the models, always in the database"
    ]


def test_a_constraint_with_more_to_say_is_the_same_one() -> None:
    """Whatever the two call it, what differs is said once."""
    assert said_of([check("a", "X")], [check("b", "X NO INHERIT")]) == [
        "constraint a on t: definition is X in the models, X NO INHERIT in the database"
    ]


def test_what_models_cannot_have_is_beyond_them() -> None:
    """An object or an aspect of a kind that only SQL makes; what they could have is not."""
    database = [
        column(storage="e", collation='"C"'),
        part("trigger", "stamps on public.t", definition="x"),
        part("index", "public.ix", definition="x"),
        Item(kind="type", name="public.mood", aspects={"labels": "'sad'"}),
        Item(kind="function", name="public.f()"),
    ]
    assert said_of([ID], database) == [
        'column t.id: collation is none in the models, "C" in the database',
        "index ix is only in the database",
        "type mood is only in the database",
        "+column t.id: storage is none in the models, e in the database",
        "+function f() is only in the database",
        "+trigger stamps on t is only in the database",
    ]


def test_what_is_said_already_is_not_said_again() -> None:
    """By Alembic, or left out by a hook of env.py, or called equal by its function."""
    models, database = [column(default="1")], [column(type="bigint", comment="x")]
    told: list[Any] = [["public", "t", "type", "id", []], ["public", "t", "comment", "id", []]]
    default = "column t.id: default is 1 in the models, none in the database"
    assert said_of(models, database, about=told) == [default]
    for excluded in (["column", "public", "t", "id"], ["table", "public", "t", "t"]):
        assert said_of(models, database, excluded=[excluded]) == []
    assert said_of([column(default="1")], [ID], excluded=[["type", "public", "t", "id"]]) == [
        default
    ]
    assert said_of([column(default="1")], [ID], excluded=[["default", "public", "t", "id"]]) == []
    unnamed = [["public", "t", "constraint", "", ["id"]]]
    assert said_of([check("a", "UNIQUE (id)")], [], about=unnamed) == []
    assert said_of([check("a", "UNIQUE (x)")], [], about=unnamed) != []


def test_people_read_how_much_is_beyond_the_models() -> None:
    """Programs read each of it; nothing is said of nothing."""
    items = {each.key: each for each in (TABLE, part("trigger", "a on public.t"))}
    function = Item(kind="function", name="public.f()")
    found = compare(
        Catalogs({TABLE.key: TABLE}, {**items, function.key: function}), Said(), lambda _: {}
    )
    (told,) = summary(found, found.findings, "accept")
    assert str(told).startswith(
        "beyond the models: 2 things of the database alone (function 1, trigger 1) ("
    )
    assert (
        told.what == "function f() is only in the database; trigger a on t is only in the database"
    )
    assert summary(found, [], "accept") == []
