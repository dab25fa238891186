"""Which revisions a squash replaces: whatever remains is a chain in which a database can stand."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
from alembic.runtime.migration import HeadMaintainer, RevisionStep
from alembic.script.revision import Revision as AlembicRevision
from alembic.script.revision import RevisionError, RevisionMap
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from backset.errors import BacksetError, SettingsError, StepFailedError
from backset.revisions.script_files import Revision
from backset.squash.selection import Selection, select


def chain(text: str) -> list[Revision]:
    """Return revisions as `b<a`, `m<b,c`, `z<y!b` (it depends on b) and `a:shop` (a label)."""
    found = []
    for word in text.split():
        own, _, depends_on = word.partition("!")
        own, _, down = own.partition("<")
        name, _, labels = own.partition(":")
        found.append(
            Revision(
                id=name,
                down=tuple(filter(None, down.split(","))),
                depends_on=tuple(filter(None, depends_on.split(","))),
                own_labels=tuple(filter(None, labels.split(","))),
            )
        )
    return found


def shown(selection: Selection) -> dict[str, str]:
    """Return what is not empty of a selection, in words."""
    return {
        name: " ".join(getattr(each, "id", each) for each in value)
        for name in Selection.__slots__
        if (value := getattr(selection, name))
    }


LINE = "a b<a c<b d<c"
FORK = "a b<a c<b x<b m<c,x y<m"
BRANCHES = "a1:one a2<a1 b1:two b2<b1!a2 b3<b2"


@pytest.mark.parametrize(
    ("text", "first", "last", "expected"),
    [
        (LINE, "", "", {"replaced": "a b c d", "heads": "d"}),
        (LINE, "base", "head", {"replaced": "a b c d", "heads": "d"}),
        (LINE, "", "c", {"replaced": "a b c", "heads": "c", "followers": "d"}),
        (LINE, "b", "c", {"replaced": "b c", "down": "a", "heads": "c", "followers": "d"}),
        (LINE, "b", "", {"replaced": "b c d", "down": "a", "heads": "d"}),
        (FORK, "", "m", {"replaced": "a b c x m", "heads": "m", "followers": "y"}),
        (FORK, "c", "m", {"replaced": "c m", "down": "x", "heads": "m", "followers": "y"}),
        ("a b<a c<b d<b", "", "", {"replaced": "a b c d", "heads": "c d"}),
        ("a b<a c<b d<b e<c,d", "b", "e", {"replaced": "b c d e", "down": "a", "heads": "e"}),
        ("a b<a x", "", "", {"replaced": "a b x", "heads": "b x"}),
        (BRANCHES, "", "one@head", {"replaced": "a1 a2", "followers": "b2", "labels": "one"}),
        (BRANCHES, "", "one", {"replaced": "a1 a2", "followers": "b2", "labels": "one"}),
        (BRANCHES, "", "two", {"replaced": "b1 b2 b3", "depends_on": "a2", "labels": "two"}),
        (BRANCHES, "two", "two@b2", {"replaced": "b1 b2", "depends_on": "a2", "followers": "b3"}),
        (BRANCHES, "", "b3", {"replaced": "b1 a1 a2 b2 b3", "heads": "b3", "labels": "two one"}),
        (BRANCHES, "", "heads", {"replaced": "b1 a1 a2 b2 b3", "heads": "b3"}),
        ("a b<a!x c<b x:side", "a", "c", {"replaced": "a b c", "depends_on": "x"}),
        ("a b<a!side c<b x:side", "a", "c", {"replaced": "a b c", "depends_on": "side"}),
        # The parent p comes before the other one; a dependency of one of them is there anyway.
        ("p a<p m<a,y y<p", "a", "m", {"replaced": "a m", "down": "y"}),
        ("p x b<p!x c<b d<c!x", "c", "d", {"replaced": "c d", "down": "b"}),
        ("k<j j a<k b<a!j,k", "a", "b", {"replaced": "a b", "down": "k"}),
    ],
)
def test_what_is_replaced(text: str, first: str, last: str, expected: dict[str, str]) -> None:
    """Lines, merges, labels, dependencies, several heads, several bases."""
    found = shown(select(chain(text), first=first, last=last))
    assert {name: found.get(name) for name in expected} == expected
    whole = {"heads", "replaced", "replaces", "labels", *expected}
    assert found.keys() <= whole


@pytest.mark.parametrize(
    ("text", "first", "last", "error"),
    [
        (
            "a b<a c<b x<b",
            "",
            "c",
            "x follows b, which would be gone → squash up to b (--to b), or ",
        ),
        ("a b<a c<b x!b", "a", "c", "x depends on b, which would be gone → squash up to b"),
        (BRANCHES, "", "b2", None),
        ("a1 a2<a1 a3<a2 b1 b2<b1!a2", "", "b2", "a3 follows a2, which would be gone"),
        ("a b<a c<a x<b m<x,c", "", "m", None),
        ("a b<a c<a x<b", "b", "c", "--from b is no ancestor of --to c → "),
        (LINE, "c", "b", "--from c is no ancestor of --to b"),
        (LINE, "b", "b", "b is one revision alone, so that there is nothing to squash → name an e"),
        (LINE, "", "a", "a is one revision alone"),
        (LINE, "heads", "", "d is one revision alone"),
        (LINE, "", "base", "--to base: no revision here is called so → `history` draws"),
        (LINE, "x", "", "--from x: no revision here is called so"),
        (LINE, "x@a", "", "--from x@a: no revision here is called so"),
        ("ab1 ab2<ab1 ab3<ab2", "ab", "", "--from ab: several revisions begin so, ab1, ab2, ab3"),
        ("a b<a c<a", "", "head", "--to head: there are several heads, b, c → name one of them"),
        ("a b<gone c<b", "", "", "b follows gone, which no file has → bring its file back first"),
        ("a b<a!gone", "", "", "b follows gone, which no file has"),
        ("a a b<a", "", "", "several files have the id a → keep one file of each id"),
        ("a b<a,c c<b", "", "", "the revisions follow each other in a circle: b, c → correct the"),
        (
            "a b<a c<a d e<c,d!b",
            "c",
            "",
            "the new revision would follow a, and b that comes after it → squash from a on (--from",
        ),
        ("", "", "", "there is no migration file → check where Alembic looks for them"),
        ("a:one b<a c<a", "", "one@head", "--to one@head: there are several heads"),
        ("a b:one<a c<b x<a", "", "one@x", "--to one@x: no revision here is called so"),
    ],
)
def test_what_is_refused(text: str, first: str, last: str, error: str | None) -> None:
    """By name, with what to do."""
    if error is None:
        select(chain(text), first=first, last=last)
        return
    with pytest.raises((SettingsError, StepFailedError)) as raised:
        select(chain(text), first=first, last=last)
    assert raised.value.lines()[0].startswith(error)


def test_what_an_earlier_squash_replaced_is_replaced_too() -> None:
    """A database that stands at one of those is followed from there."""
    scripts = [Revision(id="n", replaces=("a", "b")), *chain("c<n d<c")]
    assert select(scripts, last="c").replaces == ("a", "b", "n", "c")
    assert select(scripts, first="c").replaces == ("c", "d")
    assert select(scripts, last="c").renamed("new") == {"n": "new", "c": "new"}


def test_the_beginning_of_an_id() -> None:
    """It is enough where only one begins so, as with Alembic."""
    scripts = chain("cf94a9 0b228e<cf94a9 aaa<0b228e")
    assert [each.id for each in select(scripts, first="cf", last="0b2").replaced] == [
        "cf94a9",
        "0b228e",
    ]


@st.composite
def graphs(draw: st.DrawFn) -> list[Revision]:
    """Return revisions of which each needs some before it, as Alembic loads them."""
    found: list[Revision] = []
    labels: list[str] = []
    above: dict[str, set[str]] = {}
    for number in range(draw(st.integers(2, 9))):
        before = [each.id for each in found]
        down = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        # Mostly a line, as chains are.
        down = down or (before[-1:] if draw(st.integers(0, 3)) else [])
        needs = (
            draw(st.lists(st.sampled_from([*before, *labels]), unique=True, max_size=1))
            if (before and draw(st.integers(0, 3)) == 0)
            else []
        )
        # Needed is only what does not come before another one, as with `alembic merge`: Alembic
        # looks for the rows of the others, too.
        ids = {name: name.replace("label", "r") for name in (*down, *needs)}
        before_others = {one for each in ids.values() for one in above[each]}
        down = [each for each in down if each not in before_others]
        needs = [each for each in needs if ids[each] not in before_others]
        own = [f"label{number}"] if draw(st.integers(0, 4)) == 0 else []
        labels += own
        found.append(
            Revision(
                id=f"r{number}",
                down=tuple(sorted(down)),
                depends_on=tuple(needs),
                own_labels=tuple(own),
            )
        )
        above[f"r{number}"] = before_others.union(ids.values())
    return draw(st.permutations(found))


def loaded(scripts: list[Revision]) -> RevisionMap:
    """Return the graph as Alembic loads it; it warns of nothing."""
    made = [
        AlembicRevision(each.id, each.down or None, each.depends_on or None, each.own_labels)
        for each in scripts
    ]
    for each in made:
        each.module = SimpleNamespace(upgrade=None, downgrade=None)  # type: ignore[attr-defined]
    found = RevisionMap(lambda: iter(made))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.heads
    return found


def squashed(scripts: list[Revision], selection: Selection) -> list[Revision]:
    """Return the graph with the new revision in the place of the replaced ones."""
    names = selection.renamed("new")
    gone = {each.id for each in selection.replaced}
    new = Revision(
        id="new",
        down=selection.down,
        depends_on=selection.depends_on,
        own_labels=selection.labels,
    )
    stay = [each for each in scripts if each.id not in gone]
    rewritten = {each.id for each in selection.followers}
    return [
        new,
        *(
            Revision(
                id=each.id,
                down=tuple(dict.fromkeys(names.get(name, name) for name in each.down)),
                depends_on=tuple(dict.fromkeys(names.get(name, name) for name in each.depends_on)),
                own_labels=each.own_labels,
            )
            if each.id in rewritten
            else each
            for each in stay
        ),
    ]


def above(graph: RevisionMap, name: str) -> set[str]:
    """Return what runs before a revision, as Alembic has it."""
    nodes = graph._get_ancestor_nodes(graph.get_revisions(name))  # noqa: SLF001
    return {each.revision for each in nodes} - {name}


class Rows(HeadMaintainer):
    """The rows of a version table, as Alembic changes them, without a database."""

    def __init__(self) -> None:
        super().__init__(None, ())  # type: ignore[arg-type]

    def _insert_version(self, version: str) -> None:
        assert version not in self.heads
        self.heads.add(version)

    def _delete_version(self, version: str) -> None:
        self.heads.remove(version)

    def _update_version(self, from_: str, to_: str) -> None:
        self.heads.remove(from_)
        self.heads.add(to_)


def run(graph: RevisionMap, target: str | tuple[str, ...], rows: Rows | None = None) -> Rows:
    """Upgrade to some revisions, and return the rows."""
    rows = rows or Rows()
    for each in reversed(
        list(graph.iterate_revisions(target, tuple(rows.heads), implicit_base=True))
    ):
        rows.update_to_step(RevisionStep(graph, each, is_upgrade=True))  # type: ignore[arg-type]
    return rows


def there_and_back(graph: RevisionMap) -> None:
    """Upgrade to all heads, and downgrade to the base."""
    rows = run(graph, "heads")
    steps = graph.iterate_revisions(tuple(rows.heads), "base", select_for_downgrade=True)
    for each in list(steps):
        rows.update_to_step(RevisionStep(graph, each, is_upgrade=False))  # type: ignore[arg-type]
    assert rows.heads == set()


@settings(max_examples=100, deadline=None)
@given(scripts=graphs(), data=st.data())
def test_the_rest_is_one_valid_graph(scripts: list[Revision], data: st.DataObject) -> None:
    """Alembic loads it; other heads, and what comes before each other revision, are the same.

    A database that has run the replaced ones has the rows that are called the heads, and one at
    the new revision goes on to all heads and back.
    """
    places = [each.id for each in scripts] + [
        label for each in scripts for label in each.own_labels
    ]
    words = st.sampled_from(["", *places, "head", "heads", "base", *(f"{x}@head" for x in places)])
    first, last = data.draw(words), data.draw(words)
    try:
        found = select(scripts, first=first, last=last)
    except BacksetError:
        reject()
    old, new = loaded(scripts), loaded(squashed(scripts, found))
    gone = {each.id for each in found.replaced}
    assert {*new.heads} - {"new"} == {*old.heads} - gone
    for each in scripts:
        if each.id not in gone:
            before, after = above(old, each.id), above(new, each.id)
            assert after - {"new"} == before - gone
            assert ("new" in after) == bool(before & gone)
    assert above(new, "new") == {name for each in gone for name in above(old, each)} - gone
    seen: set[str] = set()
    for each in found.replaced:
        assert above(old, each.id) & gone <= seen
        seen.add(each.id)
    try:
        run(old, "heads")
        there_and_back(old)
        ran = run(old, found.heads)
    except (KeyError, RevisionError):
        return  # Alembic has no rows for such a graph, squashed or not
    assert ran.heads & gone == {*found.heads}
    assert run(new, "heads", run(new, "new")).heads == run(new, "heads").heads
    there_and_back(new)
