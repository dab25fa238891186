"""Each change of a schema is a difference, and named as what it is; two equal ones have none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backset.catalog import catalog, schema
from backset.catalog.schema import Sides, between, digest
from backset.connections.session import conninfo
from backset.connections.target import Target
from backset.servers.programs import Programs
from tests import schema_changes
from tests.clusters import majors, running
from tests.schema_changes import CHANGES, Change, known, make, place, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.catalog.schema import Difference, Item
    from backset.servers.cluster import Cluster

SIDES = Sides("the one", "the other")
EVERYTHING = (Path(__file__).parent / "everything.sql").read_bytes()
SECRET = "secret:"  # what no text may show


@pytest.fixture(scope="module", params=majors())
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each version, with what the changes need of it, and databases `one` and `two`."""
    with running(request.param) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            for each in (*schema_changes.PREPARED, "CREATE DATABASE one", "CREATE DATABASE two"):
                session.execute(each.encode())
        yield made


def told(found: Sequence[Difference], changes: Sequence[Change]) -> dict[str, list[str]]:
    """Return the differences by the name of the change whose schema, or object, they name."""
    by_change: dict[str, list[str]] = {}
    for each in found:
        own = [one for one in changes if _is_of(each, one)]
        name = own[0].name if own else "none"
        words = each.subject.replace(f"{place(own[0])}.", "") if own else each.subject
        by_change.setdefault(name, []).append(f"{words}: {each.what}")
    return by_change


def _is_of(difference: Difference, change: Change) -> bool:
    """Tell whether a difference is in the schema of a change, or of what has none and it names."""
    is_inside = re.search(rf"\b{place(change)}\.", difference.subject)
    return bool(is_inside) or difference.subject in {subject for subject, _ in change.named}


def expected(changes: Sequence[Change]) -> dict[str, list[str]]:
    """Return what told() has to return."""
    return {each.name: [f"{subject}: {what}" for subject, what in each.named] for each in changes}


def test_all_changes_are_the_differences(server: Cluster) -> None:
    """All at once, each in a schema of its own: each is named, and none is left when taken back."""
    changes = known(server.major)
    with psycopg.connect(server.url("postgres")) as session:
        make(session, changes)
        before = schema.read(session)
        for each in changes:
            run(session, each, each.change)
        found = between(before, schema.read(session), SIDES)
        assert told(found, changes) == expected(changes)
        for each in changes:
            run(session, each, each.back)
        assert between(before, schema.read(session), SIDES) == []
        session.rollback()


@pytest.mark.slow
def test_each_change_alone_is_the_one_difference(server: Cluster) -> None:
    """No change hides in another one, or in what was there before it."""
    changes = known(server.major)
    with psycopg.connect(server.url("postgres")) as session:
        make(session, changes)
        before = schema.read(session)
        for each in changes:
            run(session, each, each.change)
            found = between(before, schema.read(session), SIDES)
            assert told(found, changes) == expected([each])
            run(session, each, each.back)
        assert between(before, schema.read(session), SIDES) == []
        session.rollback()


def test_another_order_of_making_is_no_difference(server: Cluster) -> None:
    """Of some schemas made in another order; and one change of one of them is the difference."""
    _compare_random(server, 8)


@pytest.mark.slow
def test_random_pairs(server: Cluster) -> None:
    """Two hundred times."""
    _compare_random(server, 200)


def _compare_random(server: Cluster, examples: int) -> None:
    changes = known(server.major)
    some = st.lists(st.sampled_from(changes), min_size=1, max_size=8, unique=True)

    @settings(max_examples=examples, deadline=None, database=None)
    @given(some.flatmap(lambda few: st.tuples(st.just(few), st.permutations(few))))
    def compare(pair: tuple[list[Change], list[Change]]) -> None:
        first, second = pair
        with psycopg.connect(server.url("one")) as one, psycopg.connect(server.url("two")) as two:
            make(one, first)
            make(two, second)
            before, after = schema.read(one), schema.read(two)
            assert between(before, after, SIDES) == []
            assert digest(before, server.major) == digest(after, server.major)
            run(two, second[0], second[0].change)
            found = between(before, schema.read(two), SIDES)
            assert told(found, first) == expected(second[:1])
            one.rollback()
            two.rollback()

    compare()


def test_a_restored_dump_is_no_difference(server: Cluster, tmp_path: Path) -> None:
    """Before the changes and after them, and of one of everything else."""
    changes = [each for each in known(server.major) if not each.is_by_hand]
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute("CREATE DATABASE source TEMPLATE template0")
    source = Target.parse(server.url("source"))
    with psycopg.connect(source.url) as session:
        if session.execute(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
        ).fetchone():
            session.execute(EVERYTHING)
        make(session, changes)
    assert _restored(server, source, "first", tmp_path) == []
    with psycopg.connect(source.url) as session:
        for each in changes:
            run(session, each, each.change)
    assert _restored(server, source, "second", tmp_path) == []


def _restored(server: Cluster, source: Target, name: str, folder: Path) -> list[str]:
    """Return how a restored dump of a database differs from it, and that of its digest."""
    programs, dump = Programs({"PATH": "/nowhere"}, folder), str(folder / name)
    copy = source.named(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    pg_dump, pg_restore = (programs.find(each, server.major) for each in ("pg_dump", "pg_restore"))
    programs.run(pg_dump, "-Fc", "-f", dump, "-d", conninfo(source, "test"), target=source)
    programs.run(pg_restore, "-e", "-d", conninfo(copy, "test"), dump, target=copy)
    before, after = (_read(each) for each in (source, copy))
    found = [str(each) for each in between(before, after, SIDES)]
    is_same = digest(before, server.major) == digest(after, server.major)
    is_same = is_same and _of_dump(source) == _of_dump(copy)
    return found + ([] if is_same else ["the digest"])


def _read(target: Target) -> dict[str, Item]:
    with psycopg.connect(target.url) as session:
        return schema.read(session, spare=catalog.version_tables(session))


def _of_dump(target: Target) -> str:
    with psycopg.connect(target.url) as session:
        return schema.of_dump(session)


def test_no_secret_is_shown(server: Cluster) -> None:
    """A password is compared, and stands in no text and in nothing that is read."""
    secrets = [each for each in CHANGES if SECRET in each.setup or SECRET in each.change]
    with psycopg.connect(server.url("one")) as session:
        make(session, secrets)
        before = schema.read(session)
        (each,) = (each for each in secrets if SECRET in each.change)
        run(session, each, each.change)
        after = schema.read(session)
        (found,) = between(before, after, SIDES)
        assert SECRET not in repr((before, after, found))
        assert "password (hidden)" in repr(before)
        hashes = {item.aspects.get("secret options", SECRET) for item in after.values()}
        assert not any(each in str(found) for each in hashes)
        assert digest(before, server.major) == digest(after, server.major)
        session.rollback()


def test_a_plain_role_may_read_it(server: Cluster) -> None:
    """All of it but for what is hidden from that role."""
    with psycopg.connect(server.url("one")) as session:
        make(session, known(server.major))
        every = schema.read(session)
        session.execute("SET LOCAL ROLE reader")
        found = schema.read(session)
        assert found.keys() == every.keys()
        assert {each.subject.partition(" ")[0] for each in between(every, found, SIDES)} <= {"user"}
        session.rollback()
