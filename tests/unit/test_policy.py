"""Who may be reset: facts in, every reason out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from backset.connections.locality import Locality
from backset.runs.policy import Strategy, TargetFacts, doubts, refusals, stakes, strategy
from backset.servers.server import untried

FINE = TargetFacts(
    database="app",
    in_recovery=False,
    is_confined=False,
    may_create=True,
    owns=True,
    role="me",
    owner="me",
    locality=Locality("local", "/tmp/.s.PGSQL.5432", "this machine runs it"),
)
REMOTE: dict[str, Any] = {
    "locality": Locality("remote", "10.0.0.9:5432", "a tunnel stands between")
}


SWAP = Strategy("swap", "")
IN_PLACE = Strategy("in place", "")


def test_a_local_development_database_needs_nothing() -> None:
    """No flag, no question, and the best strategy."""
    assert [*refusals(FINE, SWAP), *doubts(FINE), *stakes(FINE)] == []
    assert strategy(FINE, offered=True, wanted=False).way == "swap"


def test_what_all_tools_connect_to_wants_consent() -> None:
    """The database `postgres`: unless it is empty, and nobody else is connected to it."""
    postgres = dataclasses.replace(FINE, database="postgres")
    assert refusals(postgres, SWAP) == []
    assert stakes(postgres) == ["postgres is what tools of the whole server connect to"]
    empty = dataclasses.replace(postgres, empty=True)
    assert stakes(empty) == []
    (reason,) = stakes(dataclasses.replace(empty, clients="psql@socket"))
    assert "connected: psql@socket" in reason


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"database": "template0"}, "belongs to PostgreSQL itself"),
        ({"database": "template1"}, "belongs to PostgreSQL itself"),
        ({"in_recovery": True}, "in recovery"),
        ({"kept": True}, "app is kept by backset beside another database → name the other one"),
        ({"protected": True}, "app is protected → `invoke unprotect`"),
        (
            {"tied": (("app has the subscription s", "drop it"),)},
            "has the subscription s → drop it",
        ),
    ],
)
@pytest.mark.parametrize("way", [SWAP, IN_PLACE])
def test_some_databases_are_never_replaced(
    change: dict[str, Any], word: str, way: Strategy
) -> None:
    """Whatever the flags and whatever the strategy; the remedy is said."""
    (reason,) = refusals(dataclasses.replace(FINE, **change), way)
    assert word in " → ".join(reason)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"may_create": False}, 'ALTER ROLE "me" CREATEDB'),
        ({"owns": False, "owner": "boss"}, 'ALTER DATABASE "app" OWNER TO "me"'),
        ({"foreign": ("app__previous",)}, "app__previous exists and backset did not make it"),
    ],
)
def test_the_swap_needs_rights_and_names(change: dict[str, Any], word: str) -> None:
    """What is missing for it is said as SQL; the strategy below needs none of that."""
    facts = dataclasses.replace(FINE, **change)
    (reason,) = refusals(facts, SWAP)
    assert word in " ".join(reason)
    assert refusals(facts, IN_PLACE) == []


@pytest.mark.parametrize(
    ("change", "wanted", "way", "why", "remedy"),
    [
        ({}, False, "swap", "built beside app", ""),
        ({}, True, "in place", "--in-place asks for it", ""),
        ({"may_create": False}, False, "in place", "may not create databases", "CREATEDB"),
        ({"owns": False, "owner": "boss"}, False, "in place", "does not own app", "OWNER TO"),
        ({"uncreatable": ("vector",)}, False, "in place", "extension vector again", "SUPERUSER"),
    ],
)
def test_the_ladder(
    change: dict[str, Any], *, wanted: bool, way: str, why: str, remedy: str
) -> None:
    """The best strategy that the rights allow, with its reason and the SQL for a better one."""
    found = strategy(dataclasses.replace(FINE, **change), offered=True, wanted=wanted)
    assert found.way == way
    assert why in found.why
    assert remedy in found.remedy


def test_a_task_without_the_lower_rung_never_gets_it() -> None:
    """`undo` needs the swap; what is missing for that is refused then."""
    facts = dataclasses.replace(FINE, may_create=False)
    assert strategy(facts, offered=False, wanted=True).way == "swap"


def test_neither_rung() -> None:
    """What bars the lower one, and what is missing for the higher one, together."""
    facts = dataclasses.replace(FINE, may_create=False, barred=(("nothing to drop", "REASSIGN"),))
    reasons = refusals(facts, strategy(facts, offered=True, wanted=False))
    assert [what for what, _ in reasons] == [
        "nothing to drop",
        "the role me may not create databases",
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (REMOTE, "another machine (10.0.0.9:5432: a tunnel"),
        ({"standbys": 1}, "standby"),
        ({"machines": ("10.0.0.7",)}, "10.0.0.7"),
        ({"size_bytes": 1_000_000_001}, "ask_above"),
        ({"frozen": "by somebody"}, "left alone: it is only read (by somebody)"),
        ({"database": "app_prod"}, "'prod'"),
        ({"database": "LiveShop"}, "'live'"),
    ],
)
def test_what_somebody_must_look_at_first(change: dict[str, Any], word: str) -> None:
    """Each is a reason for consent by itself, and none where there is nothing to lose."""
    facts = dataclasses.replace(FINE, **change)
    (reason,) = stakes(facts)
    assert word in reason
    assert stakes(dataclasses.replace(facts, empty=True)) == []


def test_an_empty_database_elsewhere_needs_a_yes() -> None:
    """There is nothing to lose, but it may be the wrong server."""
    (reason,) = doubts(dataclasses.replace(FINE, empty=True, **REMOTE))
    assert "--yes" in reason[1]


def test_a_doubtful_server_needs_a_yes_and_no_more() -> None:
    """Also when there is something to lose: it looks like a container of this machine."""
    locality = dataclasses.replace(REMOTE["locality"], verdict="doubtful")
    facts = dataclasses.replace(FINE, locality=locality)
    assert stakes(facts) == []
    (reason,) = doubts(facts)
    assert "--yes" in reason[1]


def test_a_server_that_may_lose_what_it_committed_needs_a_yes() -> None:
    """With fsync off a crash of its machine takes both databases; there is the dump."""
    (reason,) = doubts(dataclasses.replace(FINE, is_durable=False))
    assert "can lose what it has committed" in reason[0]
    assert doubts(dataclasses.replace(FINE, is_durable=False, empty=True)) == []


def test_every_reason_is_given_at_once() -> None:
    """Nobody has to run into them one by one."""
    bad = dataclasses.replace(FINE, in_recovery=True, protected=True, may_create=False, owns=False)
    assert len(refusals(bad, SWAP)) == 4
    busy = dataclasses.replace(FINE, standbys=2, machines=("10.0.0.7",), **REMOTE)
    assert len(stakes(busy)) == 3


def test_a_server_that_is_newer_than_all_that_were_tried_is_told() -> None:
    """And nothing else comes of it: what such a server has, its catalogs say."""
    assert untried(19) == "PostgreSQL 19 is newer than what backset was tried on (13 to 18)"
    assert [untried(major) for major in range(13, 19)] == [""] * 6


def test_of_many_schemas_some_are_named() -> None:
    """A reason to look fits on a line where no migration knows five hundred schemas."""
    many = tuple(f"tenant_{number}" for number in range(500))
    (reason,) = stakes(dataclasses.replace(FINE, unknown=many))
    assert "tenant_0, tenant_1, tenant_2, tenant_3, tenant_4 and 495 more in" in reason
