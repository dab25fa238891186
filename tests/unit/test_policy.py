"""Who may be reset: facts in, every reason out."""

from __future__ import annotations

import dataclasses

import pytest

from backset.locality import Locality
from backset.policy import Circumstances, refusals

FINE = Circumstances(
    database="app",
    in_recovery=False,
    may_create=True,
    owns=True,
    role="me",
    owner="me",
    locality=Locality("local", "/tmp/.s.PGSQL.5432", "this machine runs it"),
)
REMOTE = {"locality": Locality("remote", "10.0.0.9:5432", "a tunnel stands between")}


def test_a_local_development_database_needs_nothing() -> None:
    """No flag, no question."""
    assert refusals(FINE, consent=False) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"database": "postgres"}, "belongs to PostgreSQL itself"),
        ({"database": "template1"}, "belongs to PostgreSQL itself"),
        ({"in_recovery": True}, "in recovery"),
        ({"may_create": False}, 'ALTER ROLE "me" CREATEDB'),
        ({"owns": False, "owner": "boss"}, 'ALTER DATABASE "app" OWNER TO "me"'),
        ({"foreign": ("app__previous",)}, "app__previous exists and backset did not make it"),
    ],
)
def test_some_things_are_refused_whatever_the_flags(change: dict[str, object], word: str) -> None:
    """Consent does not help; the remedy is said."""
    (reason,) = refusals(dataclasses.replace(FINE, **change), consent=True)
    assert word in " ".join(reason)


@pytest.mark.parametrize("verdict", ["doubtful", "remote"])
def test_another_machine_needs_consent(verdict: str) -> None:
    """--yes is asked for, and is enough."""
    locality = dataclasses.replace(REMOTE["locality"], verdict=verdict)
    remote = dataclasses.replace(FINE, locality=locality)
    (reason,) = refusals(remote, consent=False)
    assert "may be on another machine (10.0.0.9:5432: a tunnel stands between)" in reason[0]
    assert "--yes" in reason[1]
    assert refusals(remote, consent=True) == []


def test_every_reason_is_given_at_once() -> None:
    """Nobody has to run into them one by one."""
    bad = dataclasses.replace(FINE, in_recovery=True, may_create=False, owns=False, **REMOTE)
    assert len(refusals(bad, consent=False)) == 4
