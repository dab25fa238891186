"""What libpq says of a connection that was not made, and what helps."""

from __future__ import annotations

import pytest

from backset.text.explanations import unreached


@pytest.mark.parametrize(
    ("words", "helps"),
    [
        ("connection to server at … failed: Connection refused", "start the server, or correct"),
        ('FATAL:  password authentication failed for user "u"', "correct user and password"),
        ("fe_sendauth: no password supplied", "correct user and password"),
        ('FATAL:  Peer authentication failed for user "u"', "correct user and password"),
        ('FATAL:  role "u" does not exist', "correct user and password"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", no encryption', "pg_hba.conf"),
        ('FATAL:  permission denied for database "d"', "administrator open that database"),
        ('FATAL:  database "d" is not currently accepting connections', "administrator open"),
        ("FATAL:  sorry, too many clients already", "end sessions"),
        ("FATAL:  the database system is starting up", "wait until it is ready"),
        ("SSL error: certificate verify failed", "sslrootcert"),
        ("server does not support SSL, but SSL was required", "sslmode"),
        ('could not translate host name "h" to address: unknown', "correct the host"),
        ("failed to resolve host 'h': [Errno -2] unknown", "correct the host"),
        ("FATAL:  la autentificación falló", "start the server, or correct DATABASE_URL"),
    ],
)
def test_what_helps(words: str, helps: str) -> None:
    """A server that answers is not to be started; words that nobody knows get general advice."""
    found = unreached(words, "DATABASE_URL")
    assert helps in found
    assert found.startswith("start the server") == helps.startswith("start the server")
