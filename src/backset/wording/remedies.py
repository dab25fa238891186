"""What helps where a server does not let us in, or a role may not do something. Pure."""

from __future__ import annotations

import re

_FULL = r"too many (clients|connections)|remaining connection slots"
# The words of libpq and of the server, the most telling ones first.
_REMEDIES = (
    (r"pg_hba\.conf", "let an administrator admit this client in pg_hba.conf, or correct {url}"),
    (
        r"authentication failed|no password supplied|role .* (does not exist|is not permitted)",
        "the server answers: correct user and password in {url}",
    ),
    (
        r"permission denied for database|not currently accepting connections",
        "the server answers: let an administrator open that database to your role",
    ),
    (
        _FULL,
        "the server answers: end sessions that nobody needs, then run this again",
    ),
    (
        r"starting up|shutting down|not yet accepting|in recovery mode",
        "the server answers: wait until it is ready, then run this again",
    ),
    (
        r"certificate|does not support SSL|private key",
        "correct sslmode, sslrootcert and the like in {url}, or the server's certificate",
    ),
    (r"could not translate host name|failed to resolve host", "correct the host in {url}"),
)
GRANTED = "let an administrator GRANT that to your role, then run this again"
UNHIDDEN = (
    "its owner can run ALTER TABLE … NO FORCE ROW LEVEL SECURITY, if that is the role itself; for "
    "another role an administrator can run ALTER ROLE … BYPASSRLS; no GRANT shows hidden rows"
)


def unreached(words: str, url: str) -> str:
    """Return what to do about a connection of which libpq said these words.

    url: what says which one that is. A server that speaks another language gets general advice.
    """
    found = (text for pattern, text in _REMEDIES if re.search(pattern, words, re.IGNORECASE))
    return next(found, "start the server, or correct {url}").format(url=url)


def is_full(words: str) -> bool:
    """Tell whether the server, the database or the role has as many sessions as it may have."""
    return re.search(_FULL, words, re.IGNORECASE) is not None
