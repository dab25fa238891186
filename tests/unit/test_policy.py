"""Who may be reset: facts in, every reason out."""

from __future__ import annotations

import dataclasses

import pytest

from backset.policy import Circumstances, is_local, refusals

FINE = Circumstances(
    database="app",
    in_recovery=False,
    may_create=True,
    owns=True,
    role="me",
    owner="me",
    peer=None,
    client=None,
    server=None,
)
REMOTE = {"peer": "10.0.0.9", "client": "10.0.0.5", "server": "10.0.0.9"}


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


def test_another_machine_needs_consent() -> None:
    """--yes is asked for, and is enough."""
    remote = dataclasses.replace(FINE, **REMOTE)
    (reason,) = refusals(remote, consent=False)
    assert "may be on another machine (10.0.0.9)" in reason[0]
    assert "--yes" in reason[1]
    assert refusals(remote, consent=True) == []


def test_every_reason_is_given_at_once() -> None:
    """Nobody has to run into them one by one."""
    bad = dataclasses.replace(FINE, in_recovery=True, may_create=False, owns=False, **REMOTE)
    assert len(refusals(bad, consent=False)) == 4


@pytest.mark.parametrize(
    ("peer", "client", "server", "direct", "local"),
    [
        (None, None, None, True, True),  # a Unix socket
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", True, True),
        ("::1", "::1", "::1", True, True),
        ("127.0.0.1", "172.17.0.1", "172.17.0.2", False, True),  # a container's published port
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", False, False),  # a tunnel: the port is another
        (None, "127.0.0.1", "127.0.0.1", False, False),  # a forwarded Unix socket
        ("127.0.0.1", "10.2.0.7", "10.2.0.9", False, False),  # a tunnel's far end elsewhere
        ("127.0.0.1", "8.8.8.1", "8.8.8.8", False, False),  # likewise, in public
        ("192.168.1.9", "192.168.1.5", "192.168.1.9", True, False),
    ],
)
def test_local_is_what_both_ends_say(
    peer: str | None, client: str | None, server: str | None, *, direct: bool, local: bool
) -> None:
    """The URL's text plays no part, and a tunnel to production does not look local."""
    facts = dataclasses.replace(FINE, peer=peer, client=client, server=server, direct=direct)
    assert is_local(facts) is local
