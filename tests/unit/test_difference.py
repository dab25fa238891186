"""Two schemas are compared in words that a person can act on."""

from __future__ import annotations

import pytest

from backset.catalog.schema import Difference, Item, Sides, between, digest, normal

SIDES = Sides("the old chain", "the new chain")
TABLE = Item(kind="table", name="public.tasks")


def items(*given: Item) -> dict[str, Item]:
    """Return a schema."""
    return {each.key: each for each in given}


def column(name: str, position: int, **aspects: str) -> Item:
    """Return a column of `tasks`."""
    words = {"position": str(position), **aspects}
    return Item(kind="column", name=f"public.tasks.{name}", parent=TABLE.key, aspects=words)


def constraint(name: str, definition: str) -> Item:
    """Return a constraint of `tasks`."""
    return Item(
        kind="constraint",
        name=f"{name} on public.tasks",
        parent=TABLE.key,
        aspects={"definition": definition},
    )


def compared(old: dict[str, Item], new: dict[str, Item]) -> list[str]:
    """Return the differences in words, a minor one with `~`."""
    return [("~ " if each.minor else "") + each.text for each in between(old, new, SIDES)]


def test_alike_is_nothing() -> None:
    """A schema does not differ from itself."""
    schema = items(TABLE, column("id", 1, type="integer"), constraint("pk", "PRIMARY KEY (id)"))
    assert between(schema, schema, SIDES) == []


def test_a_missing_table_takes_its_parts_with_it() -> None:
    """Of a table that one side lacks, its columns and constraints are not listed as well."""
    whole = items(TABLE, column("id", 1, type="integer"), constraint("pk", "PRIMARY KEY (id)"))
    assert compared(whole, {}) == ["table tasks is only in the old chain"]
    assert compared({}, whole) == ["table tasks is only in the new chain"]


def test_the_order_of_columns_is_one_minor_difference() -> None:
    """However many columns moved; a column more at the end is not another order."""
    old = items(TABLE, column("a", 1), column("b", 2), column("c", 3))
    new = items(TABLE, column("c", 1), column("a", 2), column("b", 3), column("d", 4))
    assert compared(old, new) == [
        "column tasks.d is only in the new chain",
        "~ table tasks: its columns have another order in the new chain: a, b, c / c, a, b",
    ]
    named = items(TABLE, column('"a.b"', 1), column("c", 2))
    turned = items(TABLE, column("c", 1), column('"a.b"', 2))
    assert compared(named, turned) == [
        '~ table tasks: its columns have another order in the new chain: "a.b", c / c, "a.b"'
    ]
    later = items(TABLE, column("a", 1), column("b", 3), column("c", 4))
    assert compared(old, later) == []


def test_another_name_is_said_as_such() -> None:
    """A constraint with another name is one difference; of columns nothing is guessed."""
    old = items(TABLE, constraint("ck_a", "CHECK ((a > 0))"), column("x", 1, type="text"))
    new = items(TABLE, constraint("ck_b", "CHECK ((a > 0))"), column("y", 1, type="text"))
    assert compared(old, new) == [
        "column tasks.x is only in the old chain",
        "column tasks.y is only in the new chain",
        "constraint ck_a on tasks is called ck_b on tasks in the new chain",
    ]


def test_an_aspect_is_named_with_both_sides() -> None:
    """Type, default and the like, with what stands on each side."""
    old = items(TABLE, column("a", 1, type="text"))
    new = items(TABLE, column("a", 1, type="integer", default="0"))
    assert compared(old, new) == [
        "column tasks.a: default is none in the old chain, 0 in the new chain",
        "column tasks.a: type is text in the old chain, integer in the new chain",
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("'a', 'b'", "'a', 'b', 'c'", "'c' only in the new chain"),
        ("'a', 'b'", "'b', 'a'", "labels is 'a', 'b' in the old chain, 'b', 'a' in the new chain"),
        ("'a', 'x, y'", "'a'", "'x, y' only in the old chain"),
    ],
)
def test_labels_of_an_enum(before: str, after: str, words: str) -> None:
    """Labels are named that one side lacks; else their order is shown."""
    old, new = (
        items(Item(kind="type", name="public.e", aspects={"labels": labels}))
        for labels in (before, after)
    )
    assert compared(old, new) == [f"type e: {words}"]


def test_a_long_definition_is_shown_where_it_differs() -> None:
    """Of a function, the first line that differs; of a long line, the place."""
    body = [f"  line {number}" for number in range(30)]
    old, new = (
        items(Item(kind="function", name="public.f()", aspects={"definition": "\n".join(lines)}))
        for lines in (body, [*body[:7], "  other", *body[8:]])
    )
    (line,) = compared(old, new)
    assert line.startswith("function f(): definition is another from line 8 on: ")
    assert line.endswith("line 7 in the old chain, other in the new chain")
    old, new = (
        items(TABLE, constraint("ck", "CHECK (" + "x" * 300 + end + ")")) for end in ("1", "2")
    )
    (line,) = compared(old, new)
    assert len(line) < 300
    assert "x1) in the old chain" in line
    assert "x2) in the new chain" in line


def test_white_space_alone_is_called_so() -> None:
    """A body that was indented anew is not shown twice as the same line."""
    old, new = (
        items(Item(kind="function", name="f()", aspects={"definition": text}))
        for text in ("a\n  b", "a\n    b")
    )
    words = "definition is another in its white space in the new chain"
    assert compared(old, new) == [f"function f(): {words}"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            "((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)]))",
        ),
        ("lower((email)::text)", "lower(email)"),
        ("((a > 0))", "(a > 0)"),
    ],
)
def test_spellings_of_one_thing(first: str, second: str) -> None:
    """What the server spells otherwise after a restore is no difference."""
    assert normal(first) == normal(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("((a OR b) AND c)", "(a OR (b AND c))"),
        ("(a = '(x)')", "(a = 'x')"),
        ("(a = 'b::text')", "(a = 'b')"),
        ("(a)::integer", "(a)::text"),
        ("ARRAY['a', 'b']", "ARRAY['a, b']"),
        ("(a - (b - c))", "((a - b) - c)"),
    ],
)
def test_what_means_something_else_stays_different(first: str, second: str) -> None:
    """Grouping, and what stands in quotes, count."""
    assert normal(first) != normal(second)


def test_only_expressions_are_read_as_such() -> None:
    """Parentheses count in an option, and in what somebody has typed between quotes or dollars."""
    pairs = [("(x)", "x", "options"), ("(x)", "x", "definition")]
    found = [
        compared(*(items(Item(kind="view", name="v", aspects={aspect: text})) for text in texts))
        for *texts, aspect in pairs
    ]
    assert [len(each) for each in found] == [1, 0]
    head = "CREATE FUNCTION f(a text[] DEFAULT {})\n LANGUAGE sql\nAS $function$ {} $function$\n"
    first, spelled, typed = (
        items(Item(kind="function", name="f", aspects={"definition": head.format(*each)}))
        for each in (("(ARRAY['a'])", "(a)"), ("ARRAY['a']", "(a)"), ("ARRAY['a']", "a"))
    )
    assert compared(first, spelled) == []
    assert len(compared(first, typed)) == 1


def test_a_secret_is_said_to_differ_and_no_more() -> None:
    """Neither side of it is shown, not even as a hash, and a digest is the same with another."""
    old, new = (
        items(Item(kind="server", name="far", aspects={"secret options": hash_})) for hash_ in "12"
    )
    assert compared(old, new) == ["server far: secret options are not the same in the new chain"]
    assert digest(old, 18) == digest(new, 18)


def test_what_matters_less_comes_last() -> None:
    """The caller names aspects that are minor."""
    old = items(TABLE, column("a", 1, owner="one", type="text"))
    new = items(TABLE, column("a", 1, owner="two", type="integer"))
    found = between(old, new, SIDES, minor={"owner"})
    assert [(each.what, each.minor) for each in found] == [("type", False), ("owner", True)]
    of_kind = between(old, new, SIDES, minor={"column"})
    assert [each.minor for each in of_kind] == [True, True]
    assert isinstance(found[0], Difference)
